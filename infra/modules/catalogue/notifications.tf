# Eventarc takes events only of buckets of its own project. A bucket of another project notifies topics of this
# one, which carry the same events to the functions.

data "google_storage_project_service_account" "elsewhere" {
  count = local.is_elsewhere ? 1 : 0

  project = var.bucket_project
}

resource "google_pubsub_topic" "notification" {
  #checkov:skip=CKV_GCP_83:A customer's key is optional (kms_key); events contain names of files, but no content and no secret.
  for_each = local.is_elsewhere ? local.events : {}

  project      = var.project
  name         = "${var.name_prefix}-catalogue-${each.key}"
  kms_key_name = var.kms_key
  labels       = var.labels
}

# Cloud Storage itself publishes, as the agent of the bucket's project.
resource "google_pubsub_topic_iam_member" "notification" {
  for_each = google_pubsub_topic.notification

  project = var.project
  topic   = each.value.name
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${data.google_storage_project_service_account.elsewhere[0].email_address}"
}

resource "google_storage_notification" "notification" {
  for_each = google_pubsub_topic.notification

  bucket             = var.name
  topic              = each.value.id
  payload_format     = "JSON_API_V1"
  event_types        = [local.events[each.key].notification]
  object_name_prefix = var.prefix == "" ? null : "${var.prefix}/"

  depends_on = [google_pubsub_topic_iam_member.notification]
}
