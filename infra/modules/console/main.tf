# The console: a service that only reads, behind Identity-Aware Proxy.

locals {
  name = "${var.prefix}-console"
  # Built here, so that a plan shows who gets which role before the identity exists.
  email  = "${google_service_account.this.account_id}@${var.project}.iam.gserviceaccount.com"
  member = "serviceAccount:${local.email}"
}

resource "google_service_account" "this" {
  project      = var.project
  account_id   = local.name
  display_name = "Segue console"
  description  = "Shows the catalogue and its results, and changes nothing"
}

resource "google_cloud_run_v2_service" "this" {
  project             = var.project
  location            = var.region
  name                = local.name
  description         = "Segue's console"
  ingress             = var.ingress
  iap_enabled         = true
  deletion_protection = false # it holds nothing
  labels              = var.labels

  template {
    service_account                  = local.email
    max_instance_request_concurrency = 80
    timeout                          = "3600s" # of a stream of live counts, which the page opens again
    encryption_key                   = var.kms_key
    labels                           = var.labels

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = 1 # it counts the ledger once for all readers
    }

    containers {
      image   = var.image
      command = ["python", "-m", "segue_console.cloud"]

      resources {
        limits            = { cpu = "2", memory = var.memory }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = merge(var.environment, {
          SEGUE_CONSOLE_AUDIENCE = "/projects/${var.project_number}/locations/${var.region}/services/${local.name}"
        })
        content {
          name  = env.key
          value = env.value
        }
      }

      startup_probe {
        initial_delay_seconds = 5
        period_seconds        = 5
        failure_threshold     = 24
        tcp_socket {}
      }
    }
  }

  depends_on = [google_project_iam_member.ledger]
}

# Who may open it, and that nobody else than the proxy may call it.

resource "google_iap_web_cloud_run_service_iam_member" "reader" {
  for_each = var.readers

  project                = var.project
  location               = var.region
  cloud_run_service_name = google_cloud_run_v2_service.this.name
  role                   = "roles/iap.httpsResourceAccessor"
  member                 = each.value
}

resource "google_cloud_run_v2_service_iam_member" "proxy" {
  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  member   = var.proxy_member
}

# Permissions of the code: to read.

resource "google_project_iam_member" "ledger" {
  project = var.project
  role    = "roles/datastore.viewer"
  member  = local.member

  condition {
    title       = "only the ledger"
    description = "Firestore roles are granted on the project; this condition limits it to Segue's database."
    expression  = "resource.name == \"projects/${var.project}/databases/${var.ledger_database}\""
  }
}

resource "google_storage_bucket_iam_member" "artifacts" {
  bucket = var.artifacts_bucket
  role   = "roles/storage.objectViewer"
  member = local.member
}

resource "google_storage_bucket_iam_member" "catalogue" {
  bucket = var.catalogue_bucket
  role   = "roles/storage.objectViewer"
  member = local.member

  dynamic "condition" {
    for_each = var.catalogue_prefix == "" ? [] : [var.catalogue_prefix]
    content {
      title       = "only the catalogue"
      description = "The bucket may hold other objects than the catalogue's."
      # Without the right to list the bucket, reading a missing object fails as forbidden, not as missing.
      expression = "resource.name == \"projects/_/buckets/${var.catalogue_bucket}\" || resource.name.startsWith(\"projects/_/buckets/${var.catalogue_bucket}/objects/${condition.value}/\")"
    }
  }
}
