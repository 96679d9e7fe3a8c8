# Where

variable "project" {
  description = "Project that Segue runs in; each environment has its own."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project's id has 6 to 30 lower-case letters, digits or hyphens; use the id that 'gcloud projects list' shows, not the name or the number."
  }
}

variable "region" {
  description = "Region that everything runs in; preferably the catalogue's, because reading from another region costs money per byte."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "The value is not a region; write one such as europe-west1, without a zone's letter."
  }
}

variable "environment" {
  description = "Name of the environment, which labels all resources."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,15}$", var.environment))
    error_message = "An environment's name is a label of 2 to 16 lower-case letters, digits or hyphens; write one such as dev."
  }
}

variable "prefix" {
  description = "Prefix of all names."
  type        = string
  default     = "segue"
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,10}[a-z0-9]$", var.prefix)) && !startswith(var.prefix, "goog")
    error_message = "The prefix must be 4 to 12 lower-case letters, digits or hyphens, start with a letter, not end with a hyphen and not begin with goog, because names of identities have at most 30 characters; write one such as segue."
  }
}

variable "team" {
  description = "Label of resources that belong to no pipeline, or to one whose jobs have no common owner; those of other pipelines are labelled with the owner in jobs.yaml."
  type        = string
  default     = "platform"
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]{0,62}$", var.team))
    error_message = "A team is a label of lower-case letters, digits, hyphens or underscores that starts with a letter; write one such as platform."
  }
}

# What

variable "graph" {
  description = "Path of jobs.yaml, the single source of all jobs, relative to infra/; 'make archives' compiles it."
  type        = string
  default     = "../shared/segue/features/jobs.yaml"
  nullable    = false
  validation {
    condition     = fileexists(var.graph)
    error_message = "The graph's file does not exist; give the path of jobs.yaml relative to infra/, or an absolute path."
  }
}

variable "archives_dir" {
  description = "Folder of the functions' archives and of the compiled graph, relative to infra/; 'make archives' fills it."
  type        = string
  default     = "../build"
  nullable    = false
  validation {
    condition     = alltrue([for name in ["arrival.zip", "deletion.zip", "sweep.zip", "request.zip", "graph.json"] : fileexists("${var.archives_dir}/${name}")])
    error_message = "An archive of the functions or the compiled graph is missing; run 'make archives', or set the folder that contains arrival.zip, deletion.zip, sweep.zip, request.zip and graph.json."
  }
  validation {
    condition     = try(jsondecode(file("${var.archives_dir}/graph.json")).format == 4, !fileexists("${var.archives_dir}/graph.json"))
    error_message = "The compiled graph, graph.json, is damaged or was written by another version of Segue than these files; run 'make archives'."
  }
  validation {
    condition     = try(jsondecode(file("${var.archives_dir}/graph.json")).lock_sha256, null) == null ? true : try(jsondecode(file("${var.archives_dir}/graph.json")).lock_sha256 == filesha256(local.lock), false)
    error_message = "The archives were built before the segue.lock beside ${basename(var.graph)} changed; run 'make archives' for the graph that ships, or 'SEGUE_GRAPH=PATH make archives' for the one that 'graph' names."
  }
  validation {
    condition     = try(jsondecode(file("${var.archives_dir}/graph.json")).sha256 == filesha256(var.graph), !fileexists("${var.archives_dir}/graph.json"))
    error_message = "The archives were built before ${basename(var.graph)} changed, or from another graph; run 'make archives' for the graph that ships, or 'SEGUE_GRAPH=PATH make archives' for the one that 'graph' names."
  }
}

variable "image" {
  description = "An existing image of the pipelines, by digest or fixed tag, such as one that was tested in another environment; null builds one from the sources."
  type        = string
  default     = null
  validation {
    condition     = var.image != null || can(regex("^\\.\\./[^.]", var.graph)) && !strcontains(trimprefix(var.graph, "../"), "..")
    error_message = "The graph is part of the image, and a build can only use files inside the repository; move jobs.yaml there and set ../FOLDER/jobs.yaml, or set an image that contains it."
  }
}

variable "base_images" {
  description = "What the pipelines' image is built from, each as NAME:TAG@sha256:DIGEST: Beam's SDK, the launcher of Flex Templates, Python, and Cloud Build's docker. Not needed with an image."
  type = object({
    beam     = string
    launcher = string
    python   = string
    docker   = string
  })
  default = null
}

variable "sources" {
  description = "What the image is built from, beside the graph and the list of its packages: files, relative to the folder above the root module. Null means Segue's own source tree; a project names its code."
  type        = set(string)
  default     = null
}

variable "packages" {
  description = "The list of packages that the image installs, relative to the folder above the root module. Null means Segue's lock: the one for GPUs if a job of the graph needs one."
  type        = string
  default     = null
}

variable "catalogue" {
  description = "The bucket of source media: created here, or an existing one that is only read. Its location defaults to the region."
  type = object({
    bucket           = optional(string) # default: PROJECT-PREFIX-catalogue
    project          = optional(string) # of an existing bucket in another project than Segue's
    create           = optional(bool, true)
    prefix           = optional(string, "")
    location         = optional(string)
    versioned        = optional(bool, false) # of an existing bucket: whether it keeps versions
    soft_delete_days = optional(number, 30)
  })
  default  = {}
  nullable = false
  validation {
    condition     = var.catalogue.create || var.catalogue.bucket != null
    error_message = "A catalogue that is not created here needs a name; write catalogue = { bucket = \"acme-masters\", create = false, location = \"eu\" }."
  }
  validation {
    condition     = var.catalogue.create || var.catalogue.location != null || var.catalogue.project != null
    error_message = "An existing catalogue needs its location, because triggers must be there; 'gcloud storage buckets describe gs://BUCKET --format=\"value(location)\"' shows it."
  }
}

variable "artifacts" {
  description = "The bucket of results. Its location defaults to the region."
  type = object({
    bucket           = optional(string) # default: PROJECT-PREFIX-artifacts
    location         = optional(string)
    soft_delete_days = optional(number, 7)
    runs_kept_days   = optional(number, 365)
  })
  default  = {}
  nullable = false
}

variable "ledger" {
  description = "The Firestore database of the ledger. Its location defaults to the region, its name to the prefix."
  type = object({
    database               = optional(string)
    location               = optional(string)
    point_in_time_recovery = optional(bool, true)
    backup_kept_days       = optional(number, 0)
  })
  default  = {}
  nullable = false
}

variable "queue" {
  description = "How long messages and dead letters are kept."
  type = object({
    retention_days      = optional(number, 7)
    dead_retention_days = optional(number, 31)
  })
  default  = {}
  nullable = false
}

variable "functions" {
  description = "Size of the functions."
  type = object({
    arrival = optional(object({
      min_instances = optional(number, 0)
      max_instances = optional(number, 20)
      concurrency   = optional(number, 40)
      memory        = optional(string, "512Mi")
    }), {})
    deletion = optional(object({
      min_instances = optional(number, 0)
      max_instances = optional(number, 5)
      concurrency   = optional(number, 20)
      memory        = optional(string, "512Mi")
    }), {})
    request = optional(object({
      min_instances = optional(number, 0)
      max_instances = optional(number, 10)
      concurrency   = optional(number, 20)
      memory        = optional(string, "1Gi")
    }), {})
    sweep = optional(object({
      min_instances = optional(number, 0)
      max_instances = optional(number, 1) # two at once would find the same work
      concurrency   = optional(number, 1)
      memory        = optional(string, "1Gi")
    }), {})
  })
  default  = {}
  nullable = false
}

variable "on_deletion" {
  description = "What happens to a deleted file's artifacts: keep (until 'segue gc') or remove."
  type        = string
  default     = "keep"
  nullable    = false
  validation {
    condition     = contains(["keep", "remove"], var.on_deletion)
    error_message = "on_deletion must be keep or remove, like SEGUE_ON_DELETION."
  }
}

variable "sweep_schedule" {
  description = "When the sweep runs, in cron's five fields."
  type        = string
  default     = "*/15 * * * *"
  nullable    = false
}

variable "pipelines" {
  description = "Workers of pipelines that differ from pipeline_defaults and from what their jobs' resources imply, by pipeline. Which jobs a pipeline runs is in jobs.yaml."
  type = map(object({
    machine_type = optional(string)
    num_workers  = optional(number) # at the start
    max_workers  = optional(number)
  }))
  default  = {}
  nullable = false
  validation {
    condition     = length(setsubtract(keys(var.pipelines), keys(local.pipelines))) == 0
    error_message = "The graph has no such pipeline: ${join(", ", setsubtract(keys(var.pipelines), keys(local.pipelines)))}. A job has a pipeline of its own name unless 'pipelines' in ${basename(var.graph)} groups it; name one of ${join(", ", keys(local.pipelines))}."
  }
  validation {
    condition     = alltrue([for pipeline in var.pipelines : coalesce(pipeline.num_workers, 1) >= 1 && coalesce(pipeline.num_workers, 1) <= coalesce(pipeline.max_workers, 1000) && coalesce(pipeline.max_workers, 1) <= 1000])
    error_message = "A pipeline starts with at least one worker and grows to max_workers, which Dataflow limits to 1,000; keep 1 <= num_workers <= max_workers."
  }
}

variable "pipeline_defaults" {
  description = "Default size of a pipeline: the number of workers that it starts with, and the most that it may have."
  type = object({
    num_workers = optional(number, 1)
    max_workers = optional(number, 5)
  })
  default  = {}
  nullable = false
}

# Who

variable "requesters" {
  description = "Who may request results over HTTP, as IAM members."
  type        = set(string)
  default     = []
  nullable    = false
  validation {
    condition     = length(setintersection(var.requesters, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "A request costs money, so unknown callers may not make one; name people, groups or service accounts, such as group:curators@example.com."
  }
}

variable "request_ingress" {
  description = "Where requests may come from: ALLOW_ALL, ALLOW_INTERNAL_AND_GCLB (only through a load balancer, which you create) or ALLOW_INTERNAL_ONLY (only from the project's own networks). The caller's identity is always checked."
  type        = string
  default     = "ALLOW_ALL"
  nullable    = false
}

variable "console" {
  description = "The console, behind Identity-Aware Proxy: who may read it, as IAM members; where readers may come from; and whether an instance (1) always runs. Null has none."
  type = object({
    readers       = set(string)
    ingress       = optional(string, "INGRESS_TRAFFIC_ALL")
    min_instances = optional(number, 0)
  })
  default = null
}

variable "operators" {
  description = "Who may launch backfills on Dataflow, as IAM members."
  type        = set(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for member in var.operators : can(regex("^(user|group|serviceAccount|principal|principalSet):.+$", member))])
    error_message = "An operator is an IAM member; write user:, group:, serviceAccount:, principal: or principalSet: before the name."
  }
}

# How

variable "protected" {
  description = "Whether Terraform refuses to delete data: buckets with objects in them, and the ledger."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key" {
  description = "Key that encrypts everything: projects/P/locations/L/keyRings/R/cryptoKeys/K; null uses Google's keys."
  type        = string
  default     = null
  validation {
    condition     = var.kms_key == null ? true : can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "A key's name is projects/P/locations/L/keyRings/R/cryptoKeys/K, without a version; 'gcloud kms keys list' shows it."
  }
}

variable "network" {
  description = "The workers' subnetwork: an existing one, or the address range of the one to create."
  type = object({
    subnetwork = optional(string) # regions/R/subnetworks/S, or the full URL of a shared one
    cidr       = optional(string, "10.80.0.0/22")
  })
  default  = {}
  nullable = false
  validation {
    condition     = var.network.subnetwork == null ? true : can(regex("(^|/)regions/[^/]+/subnetworks/[^/]+$", var.network.subnetwork))
    error_message = "A subnetwork is written as regions/REGION/subnetworks/NAME, or as the full URL of a shared one; it must have Private Google Access."
  }
}

variable "alerts" {
  description = "Who is notified, and at which thresholds; see modules/observability."
  type = object({
    emails   = optional(set(string), [])
    channels = optional(list(string), [])
    thresholds = optional(object({
      arrivals_age_s   = optional(number)
      requests_age_s   = optional(number)
      failure_ratio    = optional(number)
      failure_minimum  = optional(number)
      system_lag_s     = optional(number)
      watermark_age_s  = optional(number)
      sweep_silence_s  = optional(number)
      function_5xx     = optional(number)
      auto_close_hours = optional(number)
    }), {})
  })
  default  = {}
  nullable = false
}

variable "budget" {
  description = "What the project may cost per month, and the billing account; null creates no budget."
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string)
    shares          = optional(list(number))
  })
  default = null
}
