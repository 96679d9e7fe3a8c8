# Permissions of the pipeline; README.md says what each role is for.

locals {
  catalogue = "projects/_/buckets/${var.catalogue_bucket}"
  artifacts = "projects/_/buckets/${var.artifacts_bucket}"
  work      = "projects/_/buckets/${var.work_bucket}"

  # Which objects each role is for, as IAM conditions. Prefixes end with a slash, or beats would include beats_2.
  # Without the right to list a bucket, reading a missing object fails as forbidden, not as missing.
  reads_media = var.catalogue_prefix == "" ? [] : [
    "resource.name == \"${local.catalogue}\" || resource.name.startsWith(\"${local.catalogue}/objects/${var.catalogue_prefix}/\")"
  ]
  reads_results = concat(
    ["resource.name == \"${local.artifacts}\""],
    [for job in sort(var.parents) : "resource.name.startsWith(\"${local.artifacts}/objects/${job}/\")"],
  )
  writes_results = length(var.jobs) == 0 ? [
    "resource.name.startsWith(\"${local.artifacts}/objects/\") && !resource.name.startsWith(\"${local.artifacts}/objects/_runs/\")"
  ] : [for job in sort(var.jobs) : "resource.name.startsWith(\"${local.artifacts}/objects/${job}/\")"]
  stages = [
    for name in ["staging", "temp"] : "resource.name.startsWith(\"${local.work}/objects/${name}/${local.account}/\")"
  ]

  # A condition may have at most 12 logical operators, so a large group gets several.
  results_readers = { for number, conditions in chunklist(local.reads_results, 10) : number => join(" || ", conditions) }
  results_writers = { for number, conditions in chunklist(local.writes_results, 10) : number => join(" || ", conditions) }
}

# Dataflow refuses an identity that lacks any permission of this role on the project. The role includes reading
# and creating every object there, for which a pipeline gets narrower roles below; so a condition takes objects out.
resource "google_project_iam_member" "worker" {
  project = var.project
  role    = "roles/dataflow.worker"
  member  = local.member

  condition {
    title       = "no objects"
    description = "Roles on the buckets say which objects a pipeline may read and create."
    expression  = "resource.type != \"storage.googleapis.com/Object\""
  }
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

  lifecycle {
    create_before_destroy = true # a running job needs it until it is updated
  }
}

# Dataflow gets a subscription's settings before it reads it, which a subscriber may not.
resource "google_pubsub_subscription_iam_member" "viewer" {
  for_each = var.reads_from

  project      = var.project
  subscription = each.value
  role         = "roles/pubsub.viewer"
  member       = local.member

  lifecycle {
    create_before_destroy = true # likewise
  }
}

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = var.publishes_to

  project = var.project
  topic   = each.value
  role    = "roles/pubsub.publisher"
  member  = local.member

  lifecycle {
    create_before_destroy = true # likewise
  }
}

resource "google_storage_bucket_iam_member" "catalogue" {
  bucket = var.catalogue_bucket
  role   = "roles/storage.objectViewer"
  member = local.member

  dynamic "condition" {
    for_each = local.reads_media
    content {
      title       = "only the catalogue"
      description = "The bucket may hold other objects than the catalogue's."
      expression  = condition.value
    }
  }
}

resource "google_storage_bucket_iam_member" "parents" {
  for_each = local.results_readers

  bucket = var.artifacts_bucket
  role   = "roles/storage.objectViewer"
  member = local.member

  condition {
    title       = "only results of parents"
    description = "A pipeline reads what its jobs need, and lists names."
    expression  = each.value
  }
}

# A result that is forced or differs replaces the existing one, which needs the right to delete it.
resource "google_storage_bucket_iam_member" "artifacts" {
  for_each = local.results_writers

  bucket = var.artifacts_bucket
  role   = "roles/storage.objectUser"
  member = local.member

  condition {
    title       = "only results of its jobs"
    description = "A pipeline creates and replaces results of its own jobs only."
    expression  = each.value
  }
}

# Whatever a job does as this identity, it can neither change nor remove the record of any run.
resource "google_storage_bucket_iam_member" "runs" {
  count = length(var.jobs) == 0 ? 1 : 0

  bucket = var.artifacts_bucket
  role   = "roles/storage.objectCreator"
  member = local.member

  condition {
    title       = "only records of runs"
    description = "The launcher of a backfill writes the record of its run."
    expression  = "resource.name.startsWith(\"${local.artifacts}/objects/_runs/\")"
  }
}

resource "google_storage_bucket_iam_member" "work" {
  bucket = var.work_bucket
  role   = "roles/storage.objectUser"
  member = local.member

  condition {
    title       = "only its own files"
    description = "Staged files are code that workers run, so no other pipeline may write them."
    expression  = join(" || ", concat(["resource.name == \"${local.work}\""], local.stages))
  }
}

# Only what its jobs name: neither other secrets of the project, nor the right to list them.
resource "google_secret_manager_secret_iam_member" "accessor" {
  for_each = var.secrets

  project   = split("/", each.value)[1]
  secret_id = split("/", each.value)[3]
  role      = "roles/secretmanager.secretAccessor"
  member    = local.member

  lifecycle {
    create_before_destroy = true # a running job needs it until it is updated
  }
}

resource "google_artifact_registry_repository_iam_member" "image" {
  project    = var.project
  location   = var.repository.location
  repository = var.repository.name
  role       = "roles/artifactregistry.reader"
  member     = local.member
}
