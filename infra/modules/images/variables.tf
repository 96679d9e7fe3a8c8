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
  description = "Prefix of all names."
  type        = string
  nullable    = false
}

variable "labels" {
  description = "Labels of all resources that can have them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "image" {
  description = "An existing image, by digest or tag; null builds one from the sources."
  type        = string
  default     = null
  validation {
    condition     = var.image == null ? true : can(regex("^[a-z0-9.-]+(/[a-z0-9._-]+)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(coalesce(var.image, "-"), ":latest")
    error_message = "An image needs a registry and a fixed tag or digest, never latest, or the running code could change unnoticed; write HOST/PROJECT/REPOSITORY/segue@sha256:... or leave it out to have one built."
  }
}

variable "base_images" {
  description = "What the pipelines' image is built from, each as NAME:TAG@sha256:DIGEST: Beam's SDK, the launcher of Flex Templates, Python, and Cloud Build's docker. Not needed with an image."
  type = object({
    beam     = string
    launcher = string
    python   = string
    docker   = string
  })
  default = null
  validation {
    condition     = var.image != null || var.base_images != null
    error_message = "An image is built only from base images with digests; look them up as infra/README.md says, and set base_images, or set an image that is there."
  }
  validation {
    condition     = var.base_images == null ? true : alltrue([for image in values(var.base_images) : can(regex("^[a-z0-9./_-]+(:[A-Za-z0-9_.-]+)?@sha256:[0-9a-f]{64}$", image))])
    error_message = "Each base image needs its digest, or another image could take its place unnoticed; write NAME:TAG@sha256:... with all 64 digits, as infra/README.md says."
  }
}

variable "packages" {
  description = "The lock of the packages that are installed, in the folder that the image is built from."
  type        = string
  default     = "locks/pipelines.txt"
  nullable    = false
}

variable "source_root" {
  description = "Folder that the image is built from."
  type        = string
  nullable    = false
}

variable "source_hash" {
  description = "Hash of all sources of the image, which is the image's tag."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9a-f]{16}$", var.source_hash))
    error_message = "The hash must be the first 16 hexadecimal digits of a SHA-256; cut it with substr(..., 0, 16)."
  }
}

variable "graph" {
  description = "Path of jobs.yaml relative to source_root; it becomes part of the image, and so does a segue.lock beside it."
  type        = string
  nullable    = false
}

variable "config" {
  description = "Path of the build's configuration, infra/container/cloudbuild.yaml, which runs in source_root."
  type        = string
  nullable    = false
}

variable "metadata" {
  description = "The Flex Template's metadata as JSON: the text of infra/container/metadata.json."
  type        = string
  nullable    = false
  validation {
    condition     = can(jsondecode(var.metadata).name) && can([for parameter in jsondecode(var.metadata).parameters : parameter.name])
    error_message = "The template's metadata must be JSON with a name and a list of parameters, each with a name; see infra/container/metadata.json."
  }
}

variable "code_bucket" {
  description = "Bucket for the template and the sources of a build."
  type        = string
  nullable    = false
}

variable "kms_key" {
  description = "Key that encrypts the registries; null uses Google's keys."
  type        = string
  default     = null
}
