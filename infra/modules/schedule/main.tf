# A schedule that triggers a function through a topic: the function stays closed to the internet, and a
# failed call is retried like any other event.

resource "google_pubsub_topic" "this" {
  #checkov:skip=CKV_GCP_83:A customer's key is optional (kms_key); the message contains no data of the user.
  project      = var.project
  name         = "${var.prefix}-sweep"
  kms_key_name = var.kms_key
  labels       = var.labels
}

resource "google_cloud_scheduler_job" "this" {
  project     = var.project
  region      = var.region
  name        = "${var.prefix}-sweep"
  description = "Triggers Segue's sweep"
  schedule    = var.cron
  time_zone   = "Etc/UTC"

  pubsub_target {
    topic_name = google_pubsub_topic.this.id
    data       = base64encode("{}") # the sweep's defaults; Pub/Sub refuses an empty message
  }

  retry_config {
    retry_count          = 3
    min_backoff_duration = "5s"
    max_backoff_duration = "60s"
  }
}
