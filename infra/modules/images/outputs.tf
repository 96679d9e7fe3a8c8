output "image" {
  description = "The image that launcher and workers run."
  value       = local.image
}

output "template" {
  description = "URL of the Flex Template of streaming pipelines and backfills."
  value       = "gs://${google_storage_bucket_object.template.bucket}/${google_storage_bucket_object.template.name}"
}

output "parameters" {
  description = "Names of the template's parameters."
  value       = [for parameter in jsondecode(var.metadata).parameters : parameter.name]
}

output "pipelines_repository" {
  description = "The registry of the pipelines' image."
  value       = { location = var.region, name = google_artifact_registry_repository.pipelines.repository_id }
}

output "functions_repository" {
  description = "Id of the registry of the functions' containers."
  value       = "projects/${var.project}/locations/${var.region}/repositories/${google_artifact_registry_repository.functions.repository_id}"
}

output "builder" {
  description = "E-mail of the identity that builds."
  value       = local.email

  # A build needs the builder's permissions.
  depends_on = [
    google_artifact_registry_repository_iam_member.builder,
    google_project_iam_member.builder_logs,
    google_project_iam_member.builder_sources,
    google_storage_bucket_iam_member.builder_code,
  ]
}

output "builder_roles" {
  description = "The builder's roles, and the resources that they are granted on."
  value = sort(concat(
    ["${google_project_iam_member.builder_logs.role} on projects/${google_project_iam_member.builder_logs.project}"],
    ["${google_project_iam_member.builder_sources.role} on buckets/gcf-v2-sources-*"],
    ["${google_storage_bucket_iam_member.builder_code.role} on buckets/${google_storage_bucket_iam_member.builder_code.bucket}/*"],
    [for grant in google_artifact_registry_repository_iam_member.builder : "${grant.role} on repositories/${grant.repository}"],
  ))
}
