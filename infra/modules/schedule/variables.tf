variable "project" {
  description = "Project that holds the schedule."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Region that keeps the schedule."
  type        = string
  nullable    = false
}

variable "prefix" {
  description = "What every name begins with."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,10}[a-z0-9]$", var.prefix))
    error_message = "The prefix must be 4 to 12 lower-case letters, digits or hyphens, start with a letter and not end with a hyphen; write one such as segue."
  }
}

variable "name" {
  description = "What is woken."
  type        = string
  default     = "sweep"
  nullable    = false
}

variable "message" {
  description = "What is said, as the function decodes it: for the sweep, {} or {limit = 1000}."
  type        = map(number)
  default     = {}
  nullable    = false
}

variable "cron" {
  description = "When, as five fields of cron."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^(\\S+ ){4}\\S+$", var.cron))
    error_message = "A schedule has the five fields of cron (minute, hour, day, month, weekday) with one blank between; write one such as */5 * * * *."
  }
}

variable "time_zone" {
  description = "In whose time."
  type        = string
  default     = "Etc/UTC"
  nullable    = false
}

variable "labels" {
  description = "Labels of all that takes them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kms_key" {
  description = "Key that encrypts the topic; null leaves it to Google."
  type        = string
  default     = null
}
