output "settings" {
  description = "The environment variables with which the command line works on this environment."
  value = {
    SEGUE_CATALOGUE = module.catalogue.url
    SEGUE_ARTIFACTS = module.artifacts.url
    SEGUE_LEDGER    = module.ledger.url
    SEGUE_QUEUE     = module.queue.url
  }
}

output "request_url" {
  description = "URL for requests."
  value       = module.function["request"].url
}

output "console_url" {
  description = "Address of the console; null if there is none."
  value       = one(module.console[*].url)
}

output "image" {
  description = "The image that the pipelines run; set it in another environment to run the same there."
  value       = module.images.image
}

output "template" {
  description = "The Flex Template that backfills are launched from."
  value       = module.images.template

  precondition {
    condition     = length(setsubtract(keys(local.parameters), module.images.parameters)) == 0
    error_message = "Dataflow refuses parameters that the template does not declare; add to container/metadata.json: ${join(", ", setsubtract(keys(local.parameters), module.images.parameters))}."
  }
}

output "backfill" {
  description = "What a backfill on Dataflow needs at launch."
  value = {
    template_file_gcs_location = module.images.template
    region                     = var.region
    service_account_email      = module.backfill.service_account
    subnetwork                 = local.subnetwork
    staging_location           = module.backfill.locations.staging
    temp_location              = module.backfill.locations.temp
  }
}

output "buckets" {
  description = "Names of the buckets."
  value = {
    catalogue = module.catalogue.bucket
    artifacts = module.artifacts.bucket
    code      = module.staging.code_bucket
    work      = module.staging.work_bucket
  }
}

output "pipelines" {
  description = "The streaming pipelines: the jobs of each, and its name on Dataflow."
  value       = { for name, jobs in local.pipelines : name => { jobs = jobs, dataflow_job = module.pipeline[name].account_id } }
}

output "identities" {
  description = "The identity of each function and pipeline."
  value = merge(
    { for name, function in module.function : "function/${name}" => function.service_account },
    { for name, pipeline in module.pipeline : "pipeline/${name}" => pipeline.service_account },
    { for console in module.console : "console" => console.service_account },
    { backfill = module.backfill.service_account, builder = module.images.builder },
  )
}

output "roles" {
  description = "The roles of each identity, and the resources that they are granted on."
  value = merge(
    { for name, function in module.function : "function/${name}" => function.roles },
    { for name, pipeline in module.pipeline : "pipeline/${name}" => pipeline.roles },
    { for console in module.console : "console" => console.roles },
    { backfill = module.backfill.roles, builder = module.images.builder_roles },
  )
}

output "queue" {
  description = "Topics and subscriptions, by their names in the graph, and the topic of the sweep."
  value = {
    topics        = module.queue.topics
    subscriptions = module.queue.subscriptions
    sweep_topic   = module.schedule.topic_name
  }
}

output "dashboard" {
  description = "URL of the dashboards."
  value       = "https://console.cloud.google.com/monitoring/dashboards?project=${var.project}"
}
