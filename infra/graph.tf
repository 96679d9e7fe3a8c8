# The jobs and their pipelines, from the graph that 'make archives' compiled.

locals {
  graph = jsondecode(file("${var.archives_dir}/graph.json"))
  jobs  = local.graph.jobs

  pipelines = { for name, pipeline in local.graph.pipelines : name => sort(pipeline.jobs) }

  secrets = toset(flatten([for job in values(local.jobs) : job.secrets])) # projects/PROJECT/secrets/NAME

  # Topics that belong to a pipeline; source and dead belong to none.
  inboxes = { for name in keys(local.pipelines) : "inbox-${name}" => name }
  pipeline_topics = merge(local.inboxes, [
    for name, jobs in local.pipelines : { for job in jobs : "done-${job}" => name }
  ]...)
  subscription_pipelines = merge([
    for name, pipeline in local.graph.pipelines : { for subscription in pipeline.reads : subscription => name }
  ]...)

  # The owner of a pipeline's jobs, if it is one. An owner is free text; a label takes only lower-case letters, digits,
  # hyphens and underscores.
  pipeline_owners = { for name, jobs in local.pipelines : name => distinct([for job in jobs : local.jobs[job].owner]) }
  pipeline_team = {
    for name, owners in local.pipeline_owners : name =>
    length(owners) > 1 || owners[0] == "" ? var.team : substr(replace(lower(owners[0]), "/[^a-z0-9_-]/", "-"), 0, 63)
  }

  pipeline_gpu = {
    for name, jobs in local.pipelines : name => coalesce(concat([for job in jobs : local.jobs[job].gpu if local.jobs[job].gpu != "none"], ["none"])...)
  }
  pipeline_memory_gib = { for name, jobs in local.pipelines : name => max([for job in jobs : local.jobs[job].memory_gib]...) }

  # Every vCPU runs one job in its own process, which takes 1 GiB before the job starts; and so does a GPU, besides.
  pipeline_machine = {
    for name, memory in local.pipeline_memory_gib : name =>
    local.pipeline_gpu[name] == "nvidia-l4" ? "g2-standard-4" :
    local.pipeline_gpu[name] == "nvidia-tesla-a100" ? "a2-highgpu-1g" :
    local.pipeline_gpu[name] != "none" ? (memory <= 2 ? "n1-standard-4" : memory <= 4.2 ? "n1-highmem-4" : "n1-custom-4-${5 * (ceil(memory) + 1) * 1024}-ext") :
    memory <= 3 ? "n2-standard-2" : memory <= 7 ? "n2-highmem-2" : "n2-custom-2-${2 * (ceil(memory) + 1) * 1024}-ext"
  }
}
