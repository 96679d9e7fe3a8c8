# One topic per pipeline and lane, one per pipeline for dead letters, and on each a subscription of the same name.

locals {
  # The lanes of shared/segue/model/queue.py: arrivals and requests cannot starve each other.
  lanes = ["live", "requests"]

  lane_topics = {
    for pair in setproduct(keys(var.pipelines), local.lanes) :
    "${pair[0]}-${pair[1]}" => { pipeline = pair[0], lane = pair[1] }
  }
}

resource "google_pubsub_topic" "lane" {
  #checkov:skip=CKV_GCP_83:A customer's key is optional (kms_key); messages contain names of files, but no content and no secret.
  for_each = local.lane_topics

  project      = var.project
  name         = "${var.prefix}-${each.key}"
  kms_key_name = var.kms_key
  labels       = merge(var.pipelines[each.value.pipeline].labels, { lane = each.value.lane })

  dynamic "message_storage_policy" {
    for_each = length(var.persistence_regions) > 0 ? [var.persistence_regions] : []
    content {
      allowed_persistence_regions = message_storage_policy.value
    }
  }
}

# No dead-letter policy and no retry policy: Dataflow honours neither on a subscription that it reads.
# The pipeline writes its own dead letters. No exactly-once delivery: the ledger makes repeats harmless.
resource "google_pubsub_subscription" "lane" {
  for_each = local.lane_topics

  project                      = var.project
  name                         = google_pubsub_topic.lane[each.key].name
  topic                        = google_pubsub_topic.lane[each.key].id
  ack_deadline_seconds         = 600 # the longest
  message_retention_duration   = "${var.retention_days * 86400}s"
  enable_exactly_once_delivery = false
  labels                       = merge(var.pipelines[each.value.pipeline].labels, { lane = each.value.lane })

  expiration_policy {
    ttl = "" # never: a pipeline may be stopped for more than a month
  }
}

resource "google_pubsub_topic" "dead" {
  #checkov:skip=CKV_GCP_83:A customer's key is optional (kms_key); messages contain names of files, but no content and no secret.
  for_each = var.pipelines

  project      = var.project
  name         = "${var.prefix}-${each.key}-dead"
  kms_key_name = var.kms_key
  labels       = merge(each.value.labels, { lane = "dead" })

  dynamic "message_storage_policy" {
    for_each = length(var.persistence_regions) > 0 ? [var.persistence_regions] : []
    content {
      allowed_persistence_regions = message_storage_policy.value
    }
  }
}

resource "google_pubsub_subscription" "dead" {
  for_each = var.pipelines

  project                    = var.project
  name                       = google_pubsub_topic.dead[each.key].name
  topic                      = google_pubsub_topic.dead[each.key].id
  ack_deadline_seconds       = 600 # the longest
  message_retention_duration = "${var.dead_retention_days * 86400}s"
  labels                     = merge(each.value.labels, { lane = "dead" })

  expiration_policy {
    ttl = "" # never: the subscription is usually idle
  }
}
