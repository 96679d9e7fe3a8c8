# Dead letters for events on which the function failed. Eventarc creates the subscription that carries
# events, keeps them for a day and then drops them. Terraform cannot own that subscription, so a command
# changes it as soon as it exists, as Eventarc's documentation recommends.

locals {
  dead = "${var.prefix}-function-${var.name}-dead" # no topic of the graph begins with function-

  # 100 attempts, the most that Pub/Sub allows, take about 15 hours at these delays.
  retries = { attempts = 100, retention = "7d", min_delay = "10s", max_delay = "600s", ack_deadline = 600 }

  # Known once the trigger is created, whether or not its transport is planned as unknown.
  transport = try(google_eventarc_trigger.this[0].uid == "" ? "" : try(google_eventarc_trigger.this[0].transport[0].pubsub[0].subscription, ""), null)
}

resource "google_pubsub_topic" "dead" {
  #checkov:skip=CKV_GCP_83:A customer's key is optional (kms_key); events contain names of files, but no content and no secret.
  count = var.trigger == null ? 0 : 1

  project      = var.project
  name         = local.dead
  kms_key_name = var.kms_key
  labels       = var.labels
}

resource "google_pubsub_subscription" "dead" {
  count = var.trigger == null ? 0 : 1

  project                    = var.project
  name                       = local.dead
  topic                      = google_pubsub_topic.dead[0].id
  ack_deadline_seconds       = 600
  message_retention_duration = "2678400s" # 31 days, the longest
  labels                     = var.labels

  expiration_policy {
    ttl = "" # never: the subscription is usually idle
  }
}

# Pub/Sub itself moves the event: it publishes to this topic and acknowledges on the subscription.
resource "google_pubsub_topic_iam_member" "dead" {
  count = var.trigger == null ? 0 : 1

  project = var.project
  topic   = google_pubsub_topic.dead[0].name
  role    = "roles/pubsub.publisher"
  member  = var.pubsub_agent_member
}

resource "google_pubsub_subscription_iam_member" "transport" {
  count = var.trigger == null ? 0 : 1

  project      = var.project
  subscription = local.transport
  role         = "roles/pubsub.subscriber"
  member       = var.pubsub_agent_member
}

resource "terraform_data" "transport" {
  count = var.trigger == null ? 0 : 1

  triggers_replace = {
    subscription = local.transport
    dead_topic   = google_pubsub_topic.dead[0].id
    retries      = local.retries
  }

  provisioner "local-exec" {
    command = "gcloud pubsub subscriptions update \"$SUBSCRIPTION\" --dead-letter-topic=\"$DEAD_TOPIC\" --max-delivery-attempts=\"$ATTEMPTS\" --message-retention-duration=\"$RETENTION\" --min-retry-delay=\"$MIN_DELAY\" --max-retry-delay=\"$MAX_DELAY\" --ack-deadline=\"$ACK_DEADLINE\" --expiration-period=never --quiet"
    environment = {
      SUBSCRIPTION = self.triggers_replace.subscription
      DEAD_TOPIC   = self.triggers_replace.dead_topic
      ATTEMPTS     = self.triggers_replace.retries.attempts
      RETENTION    = self.triggers_replace.retries.retention
      MIN_DELAY    = self.triggers_replace.retries.min_delay
      MAX_DELAY    = self.triggers_replace.retries.max_delay
      ACK_DEADLINE = self.triggers_replace.retries.ack_deadline
    }
  }

  depends_on = [google_pubsub_topic_iam_member.dead, google_pubsub_subscription_iam_member.transport]
}
