output "name" {
  description = "Name of the function, and of the Cloud Run service behind it."
  value       = google_cloudfunctions2_function.this.name
}

output "url" {
  description = "URL of the function."
  value       = google_cloudfunctions2_function.this.url
}

output "service_account" {
  description = "E-mail of the function's identity."
  value       = local.email
}

output "environment" {
  description = "The function's settings."
  value       = var.environment
}

output "roles" {
  description = "The identity's roles, and the resources that they are granted on."
  value = sort(concat(
    ["${google_project_iam_member.ledger.role} on databases/${var.ledger_database}"],
    [for grant in google_project_iam_member.events : "${grant.role} on projects/${grant.project}"],
    [for grant in google_cloud_run_v2_service_iam_member.trigger : "${grant.role} on services/${grant.name}"],
    [for grant in google_pubsub_topic_iam_member.publisher : "${grant.role} on topics/${grant.topic}"],
    [for key, grant in google_storage_bucket_iam_member.object : "${grant.role} on buckets/${grant.bucket}/${coalesce(var.bucket_roles[key].prefix, "*")}"],
  ))
}
