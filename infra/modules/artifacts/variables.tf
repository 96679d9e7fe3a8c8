variable "project" {
  description = "Project that holds the bucket."
  type        = string
  nullable    = false
}

variable "name" {
  description = "Name of the bucket."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.name)) && !startswith(var.name, "goog")
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, dots, hyphens or underscores, starts and ends with a letter or digit, and does not begin with goog; write one such as acme-features, without gs://."
  }
}

variable "location" {
  description = "Location of the bucket: a region, preferably the workers', or a multi-region such as eu."
  type        = string
  nullable    = false
}

variable "soft_delete_days" {
  description = "Days for which a deleted result can be restored; 0, or 7 to 90. Results can also be computed again."
  type        = number
  default     = 7
  nullable    = false
  validation {
    condition     = var.soft_delete_days == 0 || (var.soft_delete_days >= 7 && var.soft_delete_days <= 90)
    error_message = "Cloud Storage keeps deleted objects for 7 to 90 days, or not at all; write 0 or 7 to 90."
  }
}

variable "runs_kept_days" {
  description = "Days for which the record of a backfill or a request is kept."
  type        = number
  default     = 365
  nullable    = false
  validation {
    condition     = var.runs_kept_days >= 1
    error_message = "The record of a request must be kept for at least a day, because 'segue watch' reads it; write 1 or more."
  }
}

variable "force_destroy" {
  description = "Whether Terraform may delete the bucket with its objects."
  type        = bool
  default     = false
  nullable    = false
}

variable "labels" {
  description = "Labels of the bucket."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kms_key" {
  description = "Key that encrypts the results; null uses Google's keys."
  type        = string
  default     = null
}
