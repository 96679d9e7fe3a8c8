output "code_bucket" {
  description = "Bucket of archives, templates and the sources of builds."
  value       = google_storage_bucket.code.name
}

output "work_bucket" {
  description = "Bucket of Dataflow's staging and temporary files."
  value       = google_storage_bucket.work.name
}
