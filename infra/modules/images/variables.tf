variable "project" {
  description = "Project that holds the registry."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Region of the registry and of the builds."
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

variable "labels" {
  description = "Labels of all that takes them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "image" {
  description = "An image that exists, by digest or tag; null builds one from the sources."
  type        = string
  default     = null
  validation {
    condition     = var.image == null ? true : can(regex("^[a-z0-9.-]+(/[a-z0-9._-]+)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(coalesce(var.image, "-"), ":latest")
    error_message = "An image is named with a registry and a fixed tag or digest, never latest, as what runs could change unseen; write HOST/PROJECT/REPOSITORY/segue@sha256:... or leave it out to have one built."
  }
}

variable "source_root" {
  description = "Folder that the image is built from."
  type        = string
  nullable    = false
}

variable "source_hash" {
  description = "Hash of all that goes into the image; it is the image's tag."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9a-f]{16}$", var.source_hash))
    error_message = "The hash is 16 hexadecimal digits of a SHA-256; cut it with substr(..., 0, 16)."
  }
}

variable "graph" {
  description = "Path of jobs.yaml, seen from source_root: it is baked into the image."
  type        = string
  nullable    = false
}

variable "metadata" {
  description = "What the Flex Template says of its parameters, as JSON: the text of infra/container/metadata.json."
  type        = string
  nullable    = false
  validation {
    condition     = can(jsondecode(var.metadata).name) && can([for parameter in jsondecode(var.metadata).parameters : parameter.name])
    error_message = "The template's metadata must be JSON with a name and a list of parameters, each with a name; see infra/container/metadata.json."
  }
}

variable "code_bucket" {
  description = "Bucket that takes the template and the sources of a build."
  type        = string
  nullable    = false
}

variable "kept_images" {
  description = "How many of the latest images are kept for a rollback; older ones are deleted after 30 days."
  type        = number
  default     = 10
  nullable    = false
  validation {
    condition     = var.kept_images >= 2
    error_message = "At least two images are kept, the one that runs and the one before; write 2 or more."
  }
}

variable "kms_key" {
  description = "Key that encrypts the registries; null leaves it to Google."
  type        = string
  default     = null
}
