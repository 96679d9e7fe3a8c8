output "service_account" {
  description = "E-mail of the pipeline's identity."
  value       = local.email
}

output "account_id" {
  description = "Name of the identity and of the Dataflow job."
  value       = local.account
}

output "roles" {
  description = "The identity's roles, and the resources that they are granted on."
  value = sort(concat(
    ["${google_project_iam_member.worker.role} on projects/${google_project_iam_member.worker.project}, without objects"],
    [for grant in google_project_iam_member.launcher : "${grant.role} on projects/${grant.project}"],
    ["${google_project_iam_member.ledger.role} on databases/${var.ledger_database}"],
    ["${google_artifact_registry_repository_iam_member.image.role} on repositories/${google_artifact_registry_repository_iam_member.image.repository}"],
    [for grant in google_pubsub_subscription_iam_member.subscriber : "${grant.role} on subscriptions/${grant.subscription}"],
    [for grant in google_pubsub_subscription_iam_member.viewer : "${grant.role} on subscriptions/${grant.subscription}"],
    [for grant in google_pubsub_topic_iam_member.publisher : "${grant.role} on topics/${grant.topic}"],
    [for grant in google_secret_manager_secret_iam_member.accessor : "${grant.role} on secrets/${grant.project}/${grant.secret_id}"],
    ["${google_storage_bucket_iam_member.catalogue.role} on buckets/${join("/", compact([var.catalogue_bucket, var.catalogue_prefix]))}/*"],
    [for name in ["staging", "temp"] : "${google_storage_bucket_iam_member.work.role} on buckets/${var.work_bucket}/${name}/${local.account}/*"],
    [for job in var.parents : "roles/storage.objectViewer on buckets/${var.artifacts_bucket}/${job}/*"],
    [for grant in google_storage_bucket_iam_member.runs : "${grant.role} on buckets/${grant.bucket}/_runs/*"],
    length(var.jobs) == 0 ? ["roles/storage.objectUser on buckets/${var.artifacts_bucket}/*, without _runs/"] : [for job in var.jobs : "roles/storage.objectUser on buckets/${var.artifacts_bucket}/${job}/*"],
  ))
}

output "locations" {
  description = "Where the pipeline stages its files and writes temporary ones."
  value       = { staging = local.staging_location, temp = local.temp_location }
}
