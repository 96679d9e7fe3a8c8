# The jobs, from the graph that 'make archives' compiled, and how they are grouped in pipelines.

locals {
  jobs = {
    for name, job in jsondecode(file("${var.archives_dir}/graph.json")).jobs : name => merge(job, {
      # An owner is free text; a label takes only lower-case letters, digits, hyphens and underscores.
      team = job.owner == "" ? var.team : substr(replace(lower(job.owner), "/[^a-z0-9_-]/", "-"), 0, 63)
    })
  }

  lanes = ["live", "requests"]

  # Pipelines: those that are described, and one for each remaining job, unless a described one takes them ("*").

  described = { for name, pipeline in var.pipelines : name => coalesce(pipeline.jobs, [name]) }
  named     = flatten(values(local.described))
  remaining = sort(setsubtract(keys(local.jobs), local.named))
  single    = { for job in local.remaining : job => [job] if !contains(local.named, "*") }
  grouped   = { for name, jobs in local.described : name => contains(jobs, "*") ? local.remaining : sort(jobs) }
  pipelines = merge(local.single, { for name, jobs in local.grouped : name => jobs if length(jobs) > 0 })

  pipeline_gpu = {
    for name, jobs in local.pipelines : name => coalesce(concat([for job in jobs : local.jobs[job].gpu if local.jobs[job].gpu != "none"], ["none"])...)
  }
  pipeline_memory_gib = { for name, jobs in local.pipelines : name => max([for job in jobs : local.jobs[job].memory_gib]...) }

  # Every vCPU runs one job in its own process, which takes 1 GiB before the job starts.
  pipeline_machine = {
    for name, memory in local.pipeline_memory_gib : name =>
    local.pipeline_gpu[name] == "nvidia-l4" ? "g2-standard-4" :
    local.pipeline_gpu[name] == "nvidia-tesla-a100" ? "a2-highgpu-1g" :
    local.pipeline_gpu[name] != "none" ? (memory <= 2.75 ? "n1-standard-4" : memory <= 5.5 ? "n1-highmem-4" : "n1-custom-4-${4 * (ceil(memory) + 1) * 1024}-ext") :
    memory <= 3 ? "n2-standard-2" : memory <= 7 ? "n2-highmem-2" : "n2-custom-2-${2 * (ceil(memory) + 1) * 1024}-ext"
  }
}
