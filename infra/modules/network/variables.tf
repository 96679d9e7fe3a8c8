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
  description = "What every name begins with."
  type        = string
  nullable    = false
}

variable "cidr" {
  description = "Addresses of the workers; one each."
  type        = string
  default     = "10.80.0.0/22"
  nullable    = false
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && can(regex("^(10|172|192)\\.", var.cidr)) && try(tonumber(split("/", var.cidr)[1]), 33) <= 26
    error_message = "The workers' addresses are a private IPv4 range of at least 64, as four of each are Google's; write one such as 10.80.0.0/22, for 1,020 workers."
  }
}
