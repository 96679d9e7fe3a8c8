# The graph, read from the same jobs.yaml as the code; only its jobs are used here.

locals {
  graph = yamldecode(file(var.graph))

  jobs = {
    for name, job in local.graph.jobs : name => {
      parents      = distinct([for parent in values(job.needs) : parent if parent != "source"])
      children     = [for child, other in local.graph.jobs : child if contains(values(other.needs), name)]
      reads_source = contains(values(job.needs), "source")
      memory_gib   = try(tonumber(job.resources.memory_gib), 2) # the default of shared/segue/model/graph.py
      gpu          = try(job.resources.gpu, "none")
      # An owner is free text; a label takes only lower-case letters, digits, hyphens and underscores.
      team = try(job.owner, "") == "" ? var.team : substr(replace(lower(job.owner), "/[^a-z0-9_-]/", "-"), 0, 63)
    }
  }

  lanes = ["live", "requests"]

  # Pipelines: those that are described, and one for each remaining job.

  catch_all = [for name, pipeline in var.pipelines : name if contains(coalesce(pipeline.jobs, []), "*")]
  described = {
    for name, pipeline in var.pipelines : name => pipeline.jobs == null ? [name] : pipeline.jobs
    if !contains(local.catch_all, name)
  }
  left = [for job in keys(local.jobs) : job if !contains(flatten(values(local.described)), job)]
  pipelines = {
    for name, jobs in merge(
      local.described,
      { for job in local.left : job => [job] if length(local.catch_all) == 0 },
      { for name in slice(local.catch_all, 0, min(1, length(local.catch_all))) : name => local.left if length(local.left) > 0 },
    ) : name => sort(jobs)
  }

  pipeline_gpus = {
    for name, jobs in local.pipelines : name => distinct([for job in jobs : local.jobs[job].gpu if try(local.jobs[job].gpu, "none") != "none"])
  }
  pipeline_memory_gib = {
    for name, jobs in local.pipelines : name => max([for job in jobs : try(local.jobs[job].memory_gib, 2)]...)
  }
  # Every vCPU runs one job in its own process, which takes 1 GiB before the job starts.
  pipeline_machine = {
    for name, memory in local.pipeline_memory_gib : name =>
    one(local.pipeline_gpus[name]) == "nvidia-l4" ? "g2-standard-4" :
    one(local.pipeline_gpus[name]) == "nvidia-tesla-a100" ? "a2-highgpu-1g" :
    length(local.pipeline_gpus[name]) > 0 ? (memory <= 2.75 ? "n1-standard-4" : memory <= 5.5 ? "n1-highmem-4" : "n1-custom-4-${4 * (ceil(memory) + 1) * 1024}-ext") :
    memory <= 3 ? "n2-standard-2" : memory <= 7 ? "n2-highmem-2" : "n2-custom-2-${2 * (ceil(memory) + 1) * 1024}-ext"
  }
}
