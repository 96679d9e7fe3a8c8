# The topics and subscriptions of a graph, as shared/segue/model/queue.py names them.

locals {
  # The topics of other namespaces; their prefix is that of shared/segue/adapters/pubsub.py unless their URL has one.
  foreign_topics = {
    for name, subscription in var.subscriptions : name => format(
      "projects/%s/topics/%s-%s",
      split("/", trimprefix(subscription.queue, "pubsub://"))[0],
      try(coalesce(split("/", trimprefix(subscription.queue, "pubsub://"))[1]), "segue"),
      subscription.topic,
    ) if subscription.queue != null
  }
}

resource "google_pubsub_topic" "this" {
  #checkov:skip=CKV_GCP_83:A customer's key is optional (kms_key); messages contain names of files, but no content and no secret.
  for_each = var.topics

  project      = var.project
  name         = "${var.prefix}-${each.key}"
  kms_key_name = var.kms_key
  labels       = each.value.labels

  dynamic "message_storage_policy" {
    for_each = length(var.persistence_regions) > 0 ? [var.persistence_regions] : []
    content {
      allowed_persistence_regions = message_storage_policy.value
    }
  }

  lifecycle {
    create_before_destroy = true # a topic that is no longer used goes after the jobs that use it are updated
  }
}

# No dead-letter policy and no retry policy: Dataflow honours neither on a subscription that it reads.
# The pipeline writes its own dead letters. No exactly-once delivery: the ledger makes repeats harmless.
resource "google_pubsub_subscription" "this" {
  for_each = var.subscriptions

  project                      = var.project
  name                         = "${var.prefix}-${each.key}"
  topic                        = each.value.queue == null ? google_pubsub_topic.this[each.value.topic].id : local.foreign_topics[each.key]
  ack_deadline_seconds         = 600 # the longest
  message_retention_duration   = "${86400 * (each.value.topic == "dead" ? var.dead_retention_days : var.retention_days)}s"
  enable_exactly_once_delivery = false
  labels                       = each.value.labels

  expiration_policy {
    ttl = "" # never: a pipeline may be stopped for more than a month, and dead letters are rare
  }

  lifecycle {
    create_before_destroy = true # likewise
  }
}
