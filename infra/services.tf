# The APIs that Segue uses, and Google's service agents that act for the project.

locals {
  services = toset(concat([
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudfunctions.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com",
    "compute.googleapis.com",
    "dataflow.googleapis.com",
    "eventarc.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "serviceusage.googleapis.com",
    "storage.googleapis.com",
    ],
    var.budget == null ? [] : ["billingbudgets.googleapis.com"],
    var.kms_key == null ? [] : ["cloudkms.googleapis.com"],
    var.console == null ? [] : ["iap.googleapis.com"],
    length(local.secrets) == 0 ? [] : ["secretmanager.googleapis.com"],
  ))

  # Agents that Segue refers to, which exist only once they are requested. Pub/Sub's moves events to the dead
  # letters, Eventarc's creates triggers; the others matter only with a customer's key.
  agents = toset(concat(
    ["eventarc.googleapis.com", "pubsub.googleapis.com"],
    var.console == null ? [] : ["iap.googleapis.com"],
    var.kms_key == null ? [] : [
      "artifactregistry.googleapis.com",
      "cloudfunctions.googleapis.com",
      "dataflow.googleapis.com",
      "firestore.googleapis.com",
      "run.googleapis.com",
    ],
  ))
}

resource "google_project_service" "this" {
  for_each = local.services

  project            = var.project
  service            = each.value
  disable_on_destroy = false # others in the project may need it
}

resource "google_project_service_identity" "agent" {
  provider = google-beta
  for_each = local.agents

  project = var.project
  service = each.value

  depends_on = [google_project_service.this]
}

# An agent that is requested does not get its role by itself, as one does that a service creates when it is
# first used. Without its role, Eventarc cannot create a trigger, nor Pub/Sub a token for a push.
resource "google_project_iam_member" "agent" {
  for_each = { for service, agent in google_project_service_identity.agent : service => agent if service != "iap.googleapis.com" } # it has a role on the console

  project = var.project
  role    = "roles/${trimsuffix(each.key, ".googleapis.com")}.serviceAgent"
  member  = each.value.member
}

data "google_storage_project_service_account" "this" {
  project = var.project
}

# Events of buckets reach Eventarc through Pub/Sub, where Cloud Storage publishes them.
resource "google_project_iam_member" "storage_agent" {
  project = var.project
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
}

data "google_project" "this" {
  count = var.kms_key == null && var.console == null ? 0 : 1 # names of agents, and of the console, contain its number

  project_id = var.project
}

locals {
  encrypting = var.kms_key == null ? {} : merge(
    { for service, agent in google_project_service_identity.agent : service => agent.member },
    {
      "compute.googleapis.com" = "serviceAccount:service-${data.google_project.this[0].number}@compute-system.iam.gserviceaccount.com" # workers' disks
      "storage.googleapis.com" = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
    },
  )
}

resource "google_kms_crypto_key_iam_member" "agent" {
  for_each = local.encrypting

  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = each.value
}
