# The functions: what triggers each, and exactly what its code may do.

locals {
  functions = {
    arrival = {
      description  = "Records new files, and publishes their arrival"
      trigger      = module.catalogue.triggers.arrival
      timeout_s    = 60
      ingress      = "ALLOW_INTERNAL_ONLY"
      environment  = local.settings
      publishes_to = ["source"]
      bucket_roles = {}
    }
    deletion = {
      description  = "Writes a tombstone for a deleted file"
      trigger      = module.catalogue.triggers.deletion
      timeout_s    = 60
      ingress      = "ALLOW_INTERNAL_ONLY"
      environment  = merge(local.settings, { SEGUE_ON_DELETION = var.on_deletion })
      publishes_to = local.graph.deletion_topics
      bucket_roles = { for role in google_project_iam_custom_role.remover : "remove" => { bucket = module.artifacts.bucket, role = role.id, prefix = null } }
    }
    request = {
      description  = "Accepts requests for results over HTTP"
      trigger      = null
      timeout_s    = 300
      ingress      = var.request_ingress
      environment  = local.settings
      publishes_to = keys(local.inboxes)
      bucket_roles = {
        catalogue = { bucket = module.catalogue.bucket, role = "roles/storage.objectViewer", prefix = var.catalogue.prefix == "" ? null : "${var.catalogue.prefix}/" }
        write     = { bucket = module.artifacts.bucket, role = "roles/storage.objectCreator", prefix = "_runs/" }
        read      = { bucket = module.artifacts.bucket, role = "roles/storage.objectViewer", prefix = "_runs/" }
      }
    }
    sweep = {
      description = "Requests unfinished work again"
      trigger = {
        type     = "google.cloud.pubsub.topic.v1.messagePublished"
        location = var.region
        topic    = module.schedule.topic
      }
      timeout_s    = 540
      ingress      = "ALLOW_INTERNAL_ONLY"
      environment  = local.settings
      publishes_to = keys(local.inboxes)
      bucket_roles = {}
    }
  }
}

module "function" {
  source   = "./modules/function"
  for_each = local.functions

  project     = var.project
  region      = var.region
  prefix      = var.prefix
  name        = each.key
  description = each.value.description
  archive     = "${var.archives_dir}/${each.key}.zip"
  code_bucket = module.staging.code_bucket
  builder     = module.images.builder
  repository  = module.images.functions_repository
  environment = each.value.environment
  labels      = merge(local.labels, { function = each.key })
  kms_key     = var.kms_key

  memory        = var.functions[each.key].memory
  concurrency   = var.functions[each.key].concurrency
  min_instances = var.functions[each.key].min_instances
  max_instances = var.functions[each.key].max_instances
  timeout_s     = each.value.timeout_s
  ingress       = each.value.ingress
  invokers      = each.key == "request" ? var.requesters : []

  trigger             = each.value.trigger
  pubsub_agent_member = google_project_service_identity.agent["pubsub.googleapis.com"].member
  ledger_database     = module.ledger.database
  publishes_to        = { for topic in each.value.publishes_to : topic => module.queue.topics[topic] }
  bucket_roles        = each.value.bucket_roles

  depends_on = [google_project_service.this, google_project_iam_member.agent, google_project_iam_member.storage_agent, google_kms_crypto_key_iam_member.agent]
}

# Every predefined role that deletes objects can also create them.
resource "google_project_iam_custom_role" "remover" {
  count = var.on_deletion == "remove" ? 1 : 0

  project     = var.project
  role_id     = "${replace(var.prefix, "-", "_")}_artifact_remover"
  title       = "Segue artifact remover"
  description = "Finds and removes the artifacts of a deleted file"
  permissions = ["storage.objects.delete", "storage.objects.get", "storage.objects.list"]
}
