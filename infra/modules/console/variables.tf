variable "project" {
  description = "Project that runs the console."
  type        = string
  nullable    = false
}

variable "project_number" {
  description = "Number of the project, which Identity-Aware Proxy signs for."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Region that runs the console."
  type        = string
  nullable    = false
}

variable "prefix" {
  description = "Prefix of all names."
  type        = string
  nullable    = false
}

variable "image" {
  description = "The image of the pipelines, which has the console, too."
  type        = string
  nullable    = false
}

variable "environment" {
  description = "The settings, by the names in shared/segue/model/settings.py."
  type        = map(string)
  nullable    = false
  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^SEGUE_[A-Z_]+$", name))])
    error_message = "Names of settings must begin with SEGUE_; keep secrets out of the console's environment."
  }
}

variable "readers" {
  description = "Who may open the console, as IAM members."
  type        = set(string)
  nullable    = false
  validation {
    condition     = length(var.readers) > 0 && alltrue([for member in var.readers : can(regex("^(user|group|domain|serviceAccount|principal|principalSet):.+", member))])
    error_message = "The console needs readers, who are named; write IAM members such as group:research@example.com, and never allUsers."
  }
}

variable "proxy_member" {
  description = "Service agent of Identity-Aware Proxy, as an IAM member."
  type        = string
  nullable    = false
}

variable "ledger_database" {
  description = "Name of the ledger's database."
  type        = string
  nullable    = false
}

variable "artifacts_bucket" {
  description = "Bucket of the results."
  type        = string
  nullable    = false
}

variable "catalogue_bucket" {
  description = "Bucket of the media."
  type        = string
  nullable    = false
}

variable "catalogue_prefix" {
  description = "Folder of the media in the bucket; empty for all of it."
  type        = string
  default     = ""
  nullable    = false
}

variable "ingress" {
  description = "Where readers may come from: INGRESS_TRAFFIC_ALL, INGRESS_TRAFFIC_INTERNAL_ONLY or INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER. Who they are is always checked."
  type        = string
  default     = "INGRESS_TRAFFIC_ALL"
  nullable    = false
  validation {
    condition     = contains(["INGRESS_TRAFFIC_ALL", "INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"], var.ingress)
    error_message = "Ingress is INGRESS_TRAFFIC_ALL, INGRESS_TRAFFIC_INTERNAL_ONLY or INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER."
  }
}

variable "memory" {
  description = "Memory of the instance; a worker that computes a waveform needs 1 GiB of it."
  type        = string
  default     = "2Gi"
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]+(Mi|Gi)$", var.memory))
    error_message = "Memory is a whole number with a unit of Mi or Gi; write one such as 2Gi."
  }
}

variable "min_instances" {
  description = "1 keeps the console running, for a few dollars a day; 0 starts it when somebody opens it."
  type        = number
  default     = 0
  nullable    = false
  validation {
    condition     = contains([0, 1], var.min_instances)
    error_message = "The console runs on 0 or 1 instances."
  }
}

variable "labels" {
  description = "Labels of all resources that can have them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kms_key" {
  description = "Key that encrypts the deployed image; null uses Google's keys."
  type        = string
  default     = null
}
