output "bucket" {
  description = "Name of the bucket."
  value       = var.create ? google_storage_bucket.this[0].name : var.name
}

output "location" {
  description = "Location of triggers for the bucket, as Eventarc writes it."
  value       = lower(var.location)
}

output "deletion_event" {
  description = "The type of the event that reports a deleted file."
  value       = "google.cloud.storage.object.v1.${var.versioned ? "archived" : "deleted"}"
}

output "url" {
  description = "Value of SEGUE_CATALOGUE."
  value       = join("/", compact(["gs://${var.create ? google_storage_bucket.this[0].name : var.name}", var.prefix]))
}
