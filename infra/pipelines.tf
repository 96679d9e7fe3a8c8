# The streaming pipelines, and an identity for backfills.

locals {
  # The parameters of infra/container/launch.py; the graph is in the image.
  parameters = {
    mode      = "stream"
    jobs      = "" # set per pipeline below
    catalogue = module.catalogue.url
    artifacts = module.artifacts.url
    ledger    = module.ledger.url
    queue     = module.queue.url
  }

  subnetwork = coalesce(var.network.subnetwork, one(module.network[*].subnetwork))
}

module "pipeline" {
  source   = "./modules/pipeline"
  for_each = local.pipelines

  project = var.project
  region  = var.region
  name    = "${var.prefix}-job-${each.key}"
  jobs    = each.value
  # Results of other namespaces are in buckets of theirs.
  parents = setsubtract(setintersection(flatten([for job in each.value : local.jobs[job].parents]), keys(local.jobs)), each.value)
  secrets = toset(flatten([for job in each.value : local.jobs[job].secrets]))
  kms_key = var.kms_key
  labels  = local.pipeline_labels[each.key]

  reads_from       = { for name in local.graph.pipelines[each.key].reads : name => module.queue.subscriptions[name] }
  publishes_to     = { for topic in local.graph.pipelines[each.key].publishes : topic => module.queue.topics[topic] }
  ledger_database  = module.ledger.database
  catalogue_bucket = module.catalogue.bucket
  catalogue_prefix = var.catalogue.prefix
  artifacts_bucket = module.artifacts.bucket
  work_bucket      = module.staging.work_bucket
  repository       = module.images.pipelines_repository

  streaming = {
    template     = module.images.template
    image        = module.images.image
    parameters   = merge(local.parameters, { jobs = join(",", each.value) })
    subnetwork   = local.subnetwork
    machine_type = coalesce(try(var.pipelines[each.key].machine_type, null), local.pipeline_machine[each.key])
    num_workers  = coalesce(try(var.pipelines[each.key].num_workers, null), var.pipeline_defaults.num_workers)
    max_workers  = coalesce(try(var.pipelines[each.key].max_workers, null), var.pipeline_defaults.max_workers)
    gpu          = local.pipeline_gpu[each.key]
  }

  depends_on = [google_project_service.this, google_project_iam_member.agent, google_kms_crypto_key_iam_member.agent]
}

module "backfill" {
  source = "./modules/pipeline"

  project = var.project
  region  = var.region
  name    = "${var.prefix}-backfill"
  secrets = local.secrets
  labels  = local.labels

  ledger_database  = module.ledger.database
  catalogue_bucket = module.catalogue.bucket
  catalogue_prefix = var.catalogue.prefix
  artifacts_bucket = module.artifacts.bucket
  work_bucket      = module.staging.work_bucket
  repository       = module.images.pipelines_repository

  depends_on = [google_project_service.this]
}

# Operators launch backfills: they read the template, create the job, and let it run as that identity.

resource "google_project_iam_member" "operator" {
  #checkov:skip=CKV_GCP_49:The role creates Dataflow jobs, but impersonates no identity; the one that a job runs as is granted below.
  for_each = var.operators

  project = var.project
  role    = "roles/dataflow.developer"
  member  = each.value
}

resource "google_service_account_iam_member" "operator" {
  for_each = var.operators

  service_account_id = "projects/${var.project}/serviceAccounts/${module.backfill.service_account}"
  role               = "roles/iam.serviceAccountUser"
  member             = each.value
}

resource "google_storage_bucket_iam_member" "operator" {
  for_each = var.operators

  bucket = module.staging.code_bucket
  role   = "roles/storage.objectViewer"
  member = each.value

  condition {
    title       = "only templates"
    description = "A launch reads its template, and needs neither archives nor sources."
    expression  = "resource.name.startsWith(\"projects/_/buckets/${module.staging.code_bucket}/objects/templates/\")"
  }
}
