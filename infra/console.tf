# The console, where it is wanted: it costs nothing while nobody looks.

module "console" {
  source = "./modules/console"
  count  = var.console == null ? 0 : 1

  project          = var.project
  project_number   = data.google_project.this[0].number
  region           = var.region
  prefix           = var.prefix
  image            = module.images.image
  environment      = merge(local.settings, { SEGUE_GRAPH = "/opt/segue/jobs.yaml" })
  readers          = var.console.readers
  proxy_member     = google_project_service_identity.agent["iap.googleapis.com"].member
  ingress          = var.console.ingress
  min_instances    = var.console.min_instances
  ledger_database  = module.ledger.database
  artifacts_bucket = module.artifacts.bucket
  catalogue_bucket = module.catalogue.bucket
  catalogue_prefix = var.catalogue.prefix
  labels           = local.labels
  kms_key          = var.kms_key

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}
