# One Cloud Function: its identity with its permissions, its archive, its trigger.

locals {
  id = "${var.prefix}-${var.name}"
  # Built here, so that a plan shows who gets which role before the identity exists.
  email   = "${google_service_account.this.account_id}@${var.project}.iam.gserviceaccount.com"
  member  = "serviceAccount:${local.email}"
  content = filesha256(var.archive)
  bucket  = try(var.trigger.bucket, null)
}

resource "google_service_account" "this" {
  project      = var.project
  account_id   = "${var.prefix}-fn-${var.name}"
  display_name = "Segue function ${var.name}"
  description  = var.description
}

# Named by its content: an unchanged archive is not uploaded again, a changed one redeploys the function.
resource "google_storage_bucket_object" "archive" {
  bucket       = var.code_bucket
  name         = "functions/${var.name}-${substr(local.content, 0, 16)}.zip"
  source       = var.archive
  content_type = "application/zip"

  lifecycle {
    create_before_destroy = true # the deployed archive must exist until it is replaced
  }
}

resource "google_cloudfunctions2_function" "this" {
  #checkov:skip=CKV_GCP_124:Ingress is a variable, and internal unless the root says otherwise; callers are always authenticated.
  project      = var.project
  location     = var.region
  name         = local.id
  description  = var.description
  kms_key_name = var.kms_key
  labels       = var.labels

  build_config {
    runtime           = "python311"
    entry_point       = var.name
    service_account   = "projects/${var.project}/serviceAccounts/${var.builder}"
    docker_repository = var.repository
    source {
      storage_source {
        bucket = google_storage_bucket_object.archive.bucket
        object = google_storage_bucket_object.archive.name
        # Otherwise the last archive's stays in the plan, and no object has that name and this generation.
        generation = google_storage_bucket_object.archive.generation
      }
    }
  }

  # No event_trigger: google_eventarc_trigger below exposes the subscription that carries the events,
  # which needs a dead-letter policy.
  service_config {
    available_cpu                    = "1" # more than one request at a time needs a whole CPU
    available_memory                 = var.memory
    max_instance_request_concurrency = var.concurrency
    min_instance_count               = var.min_instances
    max_instance_count               = var.max_instances
    timeout_seconds                  = var.timeout_s
    ingress_settings                 = var.ingress
    all_traffic_on_latest_revision   = true
    service_account_email            = local.email
    # By default the framework serves four at a time; the rest would wait in its queue, which scales nothing.
    environment_variables = merge(var.environment, { THREADS = tostring(var.concurrency) })
  }

  # A new revision needs its permissions at once.
  depends_on = [google_project_iam_member.ledger]
}

# Permissions of the code.

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

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = var.publishes_to

  project = var.project
  topic   = each.value
  role    = "roles/pubsub.publisher"
  member  = local.member
}

resource "google_storage_bucket_iam_member" "object" {
  for_each = var.bucket_roles

  bucket = each.value.bucket
  role   = each.value.role
  member = local.member

  dynamic "condition" {
    for_each = each.value.prefix == null ? [] : [each.value.prefix]
    content {
      title       = "only below the prefix" # of at most 100 characters, which a prefix may exceed
      description = "The function does not need the content of other objects."
      # Without the right to list the bucket, reading a missing object fails as forbidden, not as missing.
      expression = "resource.name == \"projects/_/buckets/${each.value.bucket}\" || resource.name.startsWith(\"projects/_/buckets/${each.value.bucket}/objects/${condition.value}\")"
    }
  }
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = var.invokers

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.this.name
  role     = "roles/run.invoker"
  member   = each.value
}

# The trigger.

resource "google_cloud_run_v2_service_iam_member" "trigger" {
  count = var.trigger == null ? 0 : 1

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.this.name
  role     = "roles/run.invoker"
  member   = local.member
}

resource "google_project_iam_member" "events" {
  count = local.bucket == null ? 0 : 1 # an event from a topic needs no such role

  project = var.project
  role    = "roles/eventarc.eventReceiver"
  member  = local.member
}

resource "google_eventarc_trigger" "this" {
  count = var.trigger == null ? 0 : 1

  project         = var.project
  location        = var.trigger.location
  name            = local.id
  service_account = local.email
  labels          = var.labels

  matching_criteria {
    attribute = "type"
    value     = var.trigger.type
  }

  dynamic "matching_criteria" {
    for_each = local.bucket == null ? [] : [local.bucket]
    content {
      attribute = "bucket"
      value     = matching_criteria.value
    }
  }

  dynamic "transport" {
    for_each = var.trigger.topic == null ? [] : [var.trigger.topic]
    content {
      pubsub {
        topic = transport.value
      }
    }
  }

  destination {
    cloud_run_service {
      service = google_cloudfunctions2_function.this.name
      region  = var.region
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.trigger, google_project_iam_member.events]
}
