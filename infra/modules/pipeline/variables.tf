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
  description = "Name of the pipeline, PREFIX-job-JOB or PREFIX-job-GROUP; identity and Dataflow job have it, too, shortened if it is too long for them."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]{5,}$", var.name))
    error_message = "A pipeline's name must be at least 6 lower-case letters, digits, hyphens or underscores that start with a letter; it consists of prefix and job, so rename one of them."
  }
}

variable "labels" {
  description = "Labels of all resources that can have them, to split the cost."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "jobs" {
  description = "The jobs that the pipeline serves; none for the identity of backfills."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "streaming" {
  description = "The streaming job: what it is launched from, and its size. Null creates only the identity."
  type = object({
    template               = string # gs://BUCKET/templates/....json
    image                  = string
    parameters             = map(string)
    subnetwork             = string # regions/R/subnetworks/S, or a full URL of a shared one
    staging_location       = string
    temp_location          = string
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
    condition     = var.streaming == null ? true : alltrue([for location in [var.streaming.template, var.streaming.staging_location, var.streaming.temp_location] : startswith(location, "gs://")])
    error_message = "Template, staging and temporary files must be in Cloud Storage; write gs://BUCKET/...."
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

variable "artifacts_bucket" {
  description = "Bucket of the results, in which objects are created, read and, if forced, replaced."
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
