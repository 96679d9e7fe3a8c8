variable "project" {
  description = "Project that holds the network."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Region of the workers."
  type        = string
  nullable    = false
}

variable "prefix" {
  description = "Prefix of all names."
  type        = string
  nullable    = false
}

variable "cidr" {
  description = "Address range of the workers, which need one address each."
  type        = string
  default     = "10.80.0.0/22"
  nullable    = false
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && can(regex("^(10|172|192)\\.", var.cidr)) && try(tonumber(split("/", var.cidr)[1]), 33) <= 26
    error_message = "The workers need a private IPv4 range of at least 64 addresses, of which Google reserves four; write one such as 10.80.0.0/22, for 1,020 workers."
  }
}
