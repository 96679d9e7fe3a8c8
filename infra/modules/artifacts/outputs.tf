output "bucket" {
  description = "Name of the bucket."
  value       = google_storage_bucket.this.name
}

output "url" {
  description = "What SEGUE_ARTIFACTS is set to."
  value       = "gs://${google_storage_bucket.this.name}"
}
