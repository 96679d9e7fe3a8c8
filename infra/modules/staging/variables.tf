variable "project" {
  description = "Project that holds the buckets."
  type        = string
  nullable    = false
}

variable "name" {
  description = "Prefix of the buckets' names; -code and -work are appended."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,56}[a-z0-9]$", var.name)) && !startswith(var.name, "goog")
    error_message = "With -code or -work, a bucket's name has 3 to 63 lower-case letters, digits, dots, hyphens or underscores, starts and ends with a letter or digit, and does not begin with goog; write one such as acme-segue."
  }
}

variable "location" {
  description = "Location of the buckets; preferably the workers' region."
  type        = string
  nullable    = false
}

variable "force_destroy" {
  description = "Whether Terraform may delete the buckets with their objects."
  type        = bool
  default     = false
  nullable    = false
}

variable "labels" {
  description = "Labels of the buckets."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kms_key" {
  description = "Key that encrypts the buckets; null uses Google's keys."
  type        = string
  default     = null
}
