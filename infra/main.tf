# Everything that an environment of Segue needs, composed of one module per entity.

locals {
  labels = { app = "segue", environment = var.environment, team = var.team }
  pipeline_labels = {
    for name, team in local.pipeline_team : name => merge(local.labels, { pipeline = name, team = team })
  }
  topic_labels = {
    for name in local.graph.topics : name => try(local.pipeline_labels[local.pipeline_topics[name]], local.labels)
  }

  catalogue_location = coalesce(var.catalogue.location, var.region)

  settings = {
    SEGUE_GRAPH     = "jobs.yaml" # in the archive
    SEGUE_CATALOGUE = module.catalogue.url
    SEGUE_ARTIFACTS = module.artifacts.url
    SEGUE_LEDGER    = module.ledger.url
    SEGUE_QUEUE     = module.queue.url
  }
}

module "catalogue" {
  source = "./modules/catalogue"

  project          = var.project
  region           = var.region
  name_prefix      = var.prefix
  name             = coalesce(var.catalogue.bucket, "${var.project}-${var.prefix}-catalogue")
  bucket_project   = var.catalogue.project
  create           = var.catalogue.create
  prefix           = var.catalogue.prefix
  location         = local.catalogue_location
  versioned        = var.catalogue.versioned
  soft_delete_days = var.catalogue.soft_delete_days
  force_destroy    = !var.protected
  labels           = local.labels
  kms_key          = var.kms_key

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

module "artifacts" {
  source = "./modules/artifacts"

  project          = var.project
  name             = coalesce(var.artifacts.bucket, "${var.project}-${var.prefix}-artifacts")
  location         = coalesce(var.artifacts.location, var.region)
  soft_delete_days = var.artifacts.soft_delete_days
  runs_kept_days   = var.artifacts.runs_kept_days
  force_destroy    = !var.protected
  labels           = local.labels
  kms_key          = var.kms_key

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

module "staging" {
  source = "./modules/staging"

  project       = var.project
  name          = "${var.project}-${var.prefix}"
  location      = var.region
  force_destroy = !var.protected
  labels        = local.labels
  kms_key       = var.kms_key

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

module "ledger" {
  source = "./modules/ledger"

  project                = var.project
  database               = coalesce(var.ledger.database, var.prefix)
  location               = coalesce(var.ledger.location, var.region)
  delete_protection      = var.protected
  point_in_time_recovery = var.ledger.point_in_time_recovery
  backup_kept_days       = var.ledger.backup_kept_days
  kms_key                = var.kms_key

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

module "queue" {
  source = "./modules/queue"

  project = var.project
  prefix  = var.prefix
  topics  = { for name, labels in local.topic_labels : name => { labels = labels } }
  subscriptions = {
    for name, subscription in local.graph.subscriptions : name => {
      topic  = subscription.topic
      queue  = subscription.queue
      labels = try(local.pipeline_labels[local.subscription_pipelines[name]], local.labels)
    }
  }
  persistence_regions = [var.region]
  retention_days      = var.queue.retention_days
  dead_retention_days = var.queue.dead_retention_days
  kms_key             = var.kms_key

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

module "network" {
  source = "./modules/network"
  count  = var.network.subnetwork == null ? 1 : 0

  project = var.project
  region  = var.region
  prefix  = var.prefix
  cidr    = var.network.cidr

  depends_on = [google_project_service.this]
}

module "images" {
  source = "./modules/images"

  project     = var.project
  region      = var.region
  prefix      = var.prefix
  image       = var.image
  base_images = var.base_images
  source_root = "${path.root}/.."
  source_hash = local.source_hash
  graph       = local.graph_in_sources
  packages    = local.packages
  config      = abspath("${path.module}/container/cloudbuild.yaml")
  metadata    = file("${path.module}/container/metadata.json")
  code_bucket = module.staging.code_bucket
  labels      = local.labels
  kms_key     = var.kms_key

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

module "schedule" {
  source = "./modules/schedule"

  project = var.project
  region  = var.region
  prefix  = var.prefix
  cron    = var.sweep_schedule
  labels  = local.labels
  kms_key = var.kms_key

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

module "observability" {
  source = "./modules/observability"

  project     = var.project
  environment = var.environment
  prefix      = var.prefix
  functions   = [for name in keys(local.functions) : "${var.prefix}-${name}"]
  emails      = var.alerts.emails
  channels    = var.alerts.channels
  thresholds  = var.alerts.thresholds
  budget      = var.budget
  labels      = local.labels

  depends_on = [google_project_service.this]
}
