# The results: objects that are created once, under a name that contains everything that defines them.

resource "google_storage_bucket" "this" {
  #checkov:skip=CKV_GCP_78:An object has a single version: it is created only if it is absent, and its name says what it was made from.
  #checkov:skip=CKV_GCP_62:Cloud Audit Logs record reads; usage logs would be a second bucket with the same information.
  project                     = var.project
  name                        = var.name
  location                    = var.location
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy
  labels                      = var.labels

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = var.runs_kept_days
      matches_prefix = ["_runs/"]
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }
}
