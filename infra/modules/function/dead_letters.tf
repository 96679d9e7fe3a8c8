# Dead letters for events on which the function failed. Eventarc creates the subscription that carries
# events, keeps them for a day and then drops them. Terraform cannot own that subscription, so a command
# changes it as soon as it exists, as Eventarc's documentation recommends.

locals {
  dead = "${var.prefix}-function-${var.name}-dead" # differs from all jobs' topics, since no job has a hyphen in its name

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
  message_retention_duration = "${var.dead_letters.dead_retention_days * 86400}s"
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
  member  = var.dead_letters.pubsub_agent_member
}

resource "google_pubsub_subscription_iam_member" "transport" {
  count = var.trigger == null ? 0 : 1

  project      = var.project
  subscription = local.transport
  role         = "roles/pubsub.subscriber"
  member       = var.dead_letters.pubsub_agent_member
}

resource "terraform_data" "transport" {
  count = var.trigger == null ? 0 : 1

  triggers_replace = {
    subscription = local.transport
    dead_topic   = google_pubsub_topic.dead[0].id
    settings     = var.dead_letters
  }

  provisioner "local-exec" {
    command = "gcloud pubsub subscriptions update \"$SUBSCRIPTION\" --dead-letter-topic=\"$DEAD_TOPIC\" --max-delivery-attempts=\"$ATTEMPTS\" --message-retention-duration=\"$RETENTION\" --min-retry-delay=\"$MIN_DELAY\" --max-retry-delay=\"$MAX_DELAY\" --ack-deadline=\"$ACK_DEADLINE\" --expiration-period=never --quiet"
    environment = {
      SUBSCRIPTION = self.triggers_replace.subscription
      DEAD_TOPIC   = self.triggers_replace.dead_topic
      ATTEMPTS     = self.triggers_replace.settings.max_attempts
      RETENTION    = "${self.triggers_replace.settings.retention_days}d"
      MIN_DELAY    = "${self.triggers_replace.settings.min_retry_delay_s}s"
      MAX_DELAY    = "${self.triggers_replace.settings.max_retry_delay_s}s"
      ACK_DEADLINE = self.triggers_replace.settings.ack_deadline_s
    }
  }

  depends_on = [google_pubsub_topic_iam_member.dead, google_pubsub_subscription_iam_member.transport]
}
