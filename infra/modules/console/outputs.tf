output "url" {
  description = "Address of the console."
  value       = google_cloud_run_v2_service.this.uri
}

output "service_account" {
  description = "E-mail of the console's identity."
  value       = local.email
}

output "roles" {
  description = "The identity's roles, and the resources that they are granted on."
  value = sort([
    "${google_project_iam_member.ledger.role} on databases/${var.ledger_database}",
    "${google_storage_bucket_iam_member.artifacts.role} on buckets/${var.artifacts_bucket}/*",
    "${google_storage_bucket_iam_member.catalogue.role} on buckets/${var.catalogue_bucket}/${coalesce(var.catalogue_prefix, "*")}",
  ])
}
