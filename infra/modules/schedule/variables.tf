variable "project" {
  description = "Project that holds the schedule."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Region of the schedule."
  type        = string
  nullable    = false
}

variable "prefix" {
  description = "Prefix of all names."
  type        = string
  nullable    = false
}

variable "cron" {
  description = "When to publish, in cron's five fields."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^(\\S+ ){4}\\S+$", var.cron))
    error_message = "A schedule has cron's five fields (minute, hour, day, month, weekday), separated by single spaces; write one such as */5 * * * *."
  }
}

variable "labels" {
  description = "Labels of all resources that can have them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kms_key" {
  description = "Key that encrypts the topic; null uses Google's keys."
  type        = string
  default     = null
}
