variable "project" {
  description = "Project that runs the pipeline."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Region that runs the pipeline."
  type        = string
  nullable    = false
}

variable "name" {
  description = "Name of the pipeline, PREFIX-job-PIPELINE; identity and Dataflow job have it, too, shortened if it is too long for them."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]{5,}$", var.name))
    error_message = "A pipeline's name must be at least 6 lower-case letters, digits, hyphens or underscores that start with a letter; it consists of the prefix and the name in jobs.yaml, so rename one of them."
  }
}

variable "labels" {
  description = "Labels of all resources that can have them, to split the cost."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "jobs" {
  description = "The jobs that the pipeline serves; none for the identity of backfills, which compute all of them."
  type        = set(string)
  default     = []
  nullable    = false
  validation {
    condition     = length(var.jobs) <= 190
    error_message = "A bucket's policy has room for the results of 190 jobs per identity (20 conditions of 10); divide the pipeline."
  }
}

variable "parents" {
  description = "The jobs whose results the pipeline's jobs need, besides its own."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "secrets" {
  description = "The secrets in Secret Manager that the pipeline's jobs name, as projects/PROJECT/secrets/NAME."
  type        = set(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for secret in var.secrets : can(regex("^projects/[^/]+/secrets/[^/]+$", secret))])
    error_message = "A secret is named as projects/PROJECT/secrets/NAME, without a version."
  }
}

variable "streaming" {
  description = "The streaming job: what it is launched from, its number of workers at the start, and the most that it may have. Null creates only the identity."
  type = object({
    template               = string # gs://BUCKET/templates/....json
    image                  = string
    parameters             = map(string)
    subnetwork             = string # regions/R/subnetworks/S, or a full URL of a shared one
    machine_type           = string
    num_workers            = optional(number, 1)
    max_workers            = optional(number, 5)
    gpu                    = optional(string, "none")
    additional_experiments = optional(set(string), [])
  })
  default = null
  validation {
    condition     = var.streaming == null ? true : (var.streaming.num_workers >= 1 && var.streaming.num_workers <= var.streaming.max_workers && var.streaming.max_workers <= 1000)
    error_message = "A pipeline starts with at least one worker and grows to max_workers, which Dataflow limits to 1,000; keep 1 <= num_workers <= max_workers."
  }
  validation {
    condition     = var.streaming == null ? true : startswith(var.streaming.template, "gs://")
    error_message = "The template must be in Cloud Storage; write gs://BUCKET/...."
  }
  validation {
    condition     = var.streaming == null || length(var.jobs) > 0
    error_message = "A streaming pipeline serves at least one job; name them in jobs, or leave streaming out."
  }
}

variable "reads_from" {
  description = "Names of the subscriptions that the pipeline reads, by keys that are known at plan time."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "publishes_to" {
  description = "Names of the topics that the pipeline may publish to, by keys that are known at plan time."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "ledger_database" {
  description = "Name of the Firestore database that the pipeline may read and write."
  type        = string
  nullable    = false
}

variable "catalogue_bucket" {
  description = "Bucket of the source media, which is only read."
  type        = string
  nullable    = false
}

variable "catalogue_prefix" {
  description = "Prefix of the media in that bucket, without a slash at the end; empty for the whole bucket."
  type        = string
  default     = ""
  nullable    = false
}

variable "artifacts_bucket" {
  description = "Bucket of the results, in which those of the pipeline's jobs are created and replaced, and those of their parents are read."
  type        = string
  nullable    = false
}

variable "work_bucket" {
  description = "Bucket of Dataflow's staging and temporary files."
  type        = string
  nullable    = false
}

variable "repository" {
  description = "The image's registry: its location and its name."
  type        = object({ location = string, name = string })
  nullable    = false
}

variable "kms_key" {
  description = "Key that encrypts the state and the disks of the workers; null uses Google's keys."
  type        = string
  default     = null
}
