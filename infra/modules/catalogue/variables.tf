variable "project" {
  description = "Project that Segue runs in, and that holds the bucket unless bucket_project says otherwise."
  type        = string
  nullable    = false
}

variable "bucket_project" {
  description = "Project of an existing bucket; null if it is the one that Segue runs in."
  type        = string
  default     = null
  validation {
    condition     = var.bucket_project == null || var.bucket_project == var.project || !var.create
    error_message = "A bucket of another project is not created here; set create = false, or leave its project out."
  }
}

variable "region" {
  description = "Region of the triggers for a bucket of another project."
  type        = string
  nullable    = false
}

variable "name_prefix" {
  description = "Prefix of the names of topics."
  type        = string
  nullable    = false
}

variable "name" {
  description = "Name of the bucket."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.name)) && !startswith(var.name, "goog")
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, dots, hyphens or underscores, starts and ends with a letter or digit, and does not begin with goog; write one such as acme-masters, without gs://."
  }
}

variable "create" {
  description = "Whether to create the bucket; if not, it exists and is only read."
  type        = bool
  default     = true
  nullable    = false
}

variable "prefix" {
  description = "Prefix of the media in the bucket; empty for the whole bucket."
  type        = string
  default     = ""
  nullable    = false
  validation {
    condition     = !startswith(var.prefix, "/") && !endswith(var.prefix, "/")
    error_message = "The prefix must not begin or end with a slash; write masters or masters/2026."
  }
  validation {
    condition     = !can(regex("[\"\\\\[:cntrl:]]", var.prefix))
    error_message = "A prefix with a quotation mark, a backslash or a control character cannot be written in a condition of IAM; move the files below another one."
  }
}

variable "location" {
  description = "Location of the bucket and of its triggers: a region, or a multi-region such as eu."
  type        = string
  nullable    = false
}

variable "soft_delete_days" {
  description = "Days for which a deleted object can be restored; 0, or 7 to 90."
  type        = number
  default     = 30
  nullable    = false
  validation {
    condition     = var.soft_delete_days == 0 || (var.soft_delete_days >= 7 && var.soft_delete_days <= 90)
    error_message = "Cloud Storage keeps deleted objects for 7 to 90 days, or not at all; write 0 or 7 to 90."
  }
}

variable "versioned" {
  description = "Whether the bucket keeps versions; a deletion is then reported as archived. Soft delete is the cheaper protection."
  type        = bool
  default     = false
  nullable    = false
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
  description = "Key that encrypts the media; null uses Google's keys."
  type        = string
  default     = null
}
