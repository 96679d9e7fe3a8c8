output "bucket" {
  description = "Name of the bucket."
  value       = google_storage_bucket.this.name
}

output "url" {
  description = "Value of SEGUE_ARTIFACTS."
  value       = "gs://${google_storage_bucket.this.name}"
}
