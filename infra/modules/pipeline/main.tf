# One pipeline: its identity with its permissions, and the streaming job on Dataflow.

locals {
  # An identity's name has at most 30 characters and no underscore. A name that is cut gets a hash of
  # the whole name, so that it stays unique.
  plain   = replace(var.name, "_", "-")
  fits    = length(local.plain) <= 30 && can(regex("[a-z0-9]$", local.plain))
  stem    = trimsuffix(trimsuffix(substr(local.plain, 0, 23), "-"), "-")
  account = local.fits ? local.plain : "${local.stem}-${substr(sha256(var.name), 0, 6)}"
  # Built here, so that a plan shows who gets which role before the identity exists.
  email  = "${google_service_account.this.account_id}@${var.project}.iam.gserviceaccount.com"
  member = "serviceAccount:${local.email}"

  staging_location = "gs://${var.work_bucket}/staging/${local.account}"
  temp_location    = "gs://${var.work_bucket}/temp/${local.account}"

  accelerator = try(var.streaming.gpu, "none") == "none" ? [] : [
    "worker_accelerator=type:${var.streaming.gpu};count:1;install-nvidia-driver"
  ]
}

resource "google_service_account" "this" {
  project      = var.project
  account_id   = local.account
  display_name = "Segue pipeline ${var.name}"
  description  = length(var.jobs) == 0 ? "Runs backfills" : "Runs a streaming pipeline"
}

resource "google_dataflow_flex_template_job" "this" {
  provider = google-beta
  for_each = var.streaming == null ? toset([]) : toset(["streaming"])

  project                 = var.project
  region                  = var.region
  name                    = local.account
  container_spec_gcs_path = var.streaming.template
  parameters              = var.streaming.parameters
  labels                  = var.labels

  # Another image or parameter updates the running job in place. A change that cannot be updated replaces
  # it: it is drained first, and unacknowledged messages wait in its subscriptions for the next job.
  on_delete                    = "drain"
  skip_wait_on_job_termination = false # the next job has the same name

  service_account_email = local.email
  sdk_container_image   = var.streaming.image
  machine_type          = var.streaming.machine_type
  num_workers           = var.streaming.num_workers
  max_workers           = var.streaming.max_workers
  autoscaling_algorithm = "THROUGHPUT_BASED"
  # Streaming Engine keeps state and timers off the workers' disks.
  enable_streaming_engine = true
  additional_experiments  = length(local.accelerator) + length(var.streaming.additional_experiments) == 0 ? null : setunion(local.accelerator, var.streaming.additional_experiments)

  ip_configuration = "WORKER_IP_PRIVATE"
  subnetwork       = var.streaming.subnetwork
  staging_location = local.staging_location
  temp_location    = local.temp_location
  kms_key_name     = var.kms_key

  # Without permission to read its subscription, a worker fails at once, and the job with it.
  depends_on = [
    google_artifact_registry_repository_iam_member.image,
    google_project_iam_member.launcher,
    google_project_iam_member.ledger,
    google_project_iam_member.worker,
    google_pubsub_subscription_iam_member.subscriber,
    google_pubsub_subscription_iam_member.viewer,
    google_pubsub_topic_iam_member.publisher,
    google_secret_manager_secret_iam_member.accessor,
    google_storage_bucket_iam_member.artifacts,
    google_storage_bucket_iam_member.catalogue,
    google_storage_bucket_iam_member.parents,
    google_storage_bucket_iam_member.work,
  ]
}
