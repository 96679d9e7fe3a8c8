# The source media: a bucket that is made here, or one that exists and is only read.

resource "google_storage_bucket" "this" {
  #checkov:skip=CKV_GCP_78:Versions are optional (versioned); soft delete brings back what was deleted by mistake, and lets go of it by itself.
  #checkov:skip=CKV_GCP_62:Who reads what is in Cloud Audit Logs; a log of usage would be a second bucket with the same names.
  count = var.create ? 1 : 0

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
      age = 7
    }
  }

  dynamic "versioning" {
    for_each = var.versioned ? [true] : []
    content {
      enabled = true
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.versioned ? [true] : []
    content {
      action {
        type = "Delete"
      }
      condition {
        days_since_noncurrent_time = 30
        with_state                 = "ARCHIVED"
      }
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }
}
