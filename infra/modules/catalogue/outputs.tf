output "bucket" {
  description = "Name of the bucket."
  value       = local.bucket
}

output "triggers" {
  description = "What triggers the functions arrival and deletion: events of the bucket, or the topics that its notifications go to."
  value = {
    for function, event in local.events : function => {
      type     = local.is_elsewhere ? "google.cloud.pubsub.topic.v1.messagePublished" : "google.cloud.storage.object.v1.${event.eventarc}"
      location = local.is_elsewhere ? var.region : lower(var.location) # as Eventarc writes it
      bucket   = local.is_elsewhere ? null : local.bucket
      topic    = local.is_elsewhere ? google_pubsub_topic.notification[function].id : null
    }
  }
}

output "url" {
  description = "Value of SEGUE_CATALOGUE."
  value       = join("/", compact(["gs://${local.bucket}", var.prefix]))
}
