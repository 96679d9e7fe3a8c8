output "bucket" {
  description = "Name of the bucket."
  value       = var.create ? google_storage_bucket.this[0].name : var.name
}

output "location" {
  description = "Where events of the bucket are taken, as Eventarc writes it."
  value       = lower(var.location)
}

output "deletion_event" {
  description = "The type of the event that tells that a file is gone."
  value       = "google.cloud.storage.object.v1.${var.versioned ? "archived" : "deleted"}"
}

output "url" {
  description = "What SEGUE_CATALOGUE is set to."
  value       = join("/", compact(["gs://${var.create ? google_storage_bucket.this[0].name : var.name}", var.prefix]))
}
