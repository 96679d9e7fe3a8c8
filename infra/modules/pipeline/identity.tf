# Permissions of the pipeline; README.md says what each role is for.

resource "google_project_iam_member" "worker" {
  project = var.project
  role    = "roles/dataflow.worker"
  member  = local.member
}

# To update a running job, the launcher finds it by name among all jobs, which a worker may not list.
resource "google_project_iam_member" "launcher" {
  count = var.streaming == null ? 0 : 1

  project = var.project
  role    = "roles/dataflow.viewer"
  member  = local.member
}

resource "google_project_iam_member" "ledger" {
  project = var.project
  role    = "roles/datastore.user"
  member  = local.member

  condition {
    title       = "only the ledger"
    description = "Firestore roles are granted on the project; this condition limits it to Segue's database."
    expression  = "resource.name == \"projects/${var.project}/databases/${var.ledger_database}\""
  }
}

resource "google_pubsub_subscription_iam_member" "subscriber" {
  for_each = var.reads_from

  project      = var.project
  subscription = each.value
  role         = "roles/pubsub.subscriber"
  member       = local.member
}

# Dataflow gets a subscription's settings before it reads it, which a subscriber may not.
resource "google_pubsub_subscription_iam_member" "viewer" {
  for_each = var.reads_from

  project      = var.project
  subscription = each.value
  role         = "roles/pubsub.viewer"
  member       = local.member
}

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = var.publishes_to

  project = var.project
  topic   = each.value
  role    = "roles/pubsub.publisher"
  member  = local.member
}

resource "google_storage_bucket_iam_member" "catalogue" {
  bucket = var.catalogue_bucket
  role   = "roles/storage.objectViewer"
  member = local.member
}

# A forced result replaces the existing one, which needs the right to delete it.
resource "google_storage_bucket_iam_member" "artifacts" {
  bucket = var.artifacts_bucket
  role   = "roles/storage.objectUser"
  member = local.member
}

resource "google_storage_bucket_iam_member" "work" {
  bucket = var.work_bucket
  role   = "roles/storage.objectUser"
  member = local.member
}

resource "google_artifact_registry_repository_iam_member" "image" {
  project    = var.project
  location   = var.repository.location
  repository = var.repository.name
  role       = "roles/artifactregistry.reader"
  member     = local.member
}
