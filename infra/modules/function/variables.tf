variable "project" {
  description = "Project that runs the function."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Region that runs the function."
  type        = string
  nullable    = false
}

variable "prefix" {
  description = "Prefix of all names."
  type        = string
  nullable    = false
}

variable "name" {
  description = "Name of the function's module under functions/, and of the handler in it."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9]{0,11}$", var.name))
    error_message = "A function's name must match [a-z][a-z0-9]* with at most 12 characters: with the prefix and -fn- it forms the identity's name, which has at most 30; rename the module under functions/."
  }
}

variable "description" {
  description = "What the function does; the console shows it."
  type        = string
  default     = ""
  nullable    = false
}

variable "archive" {
  description = "Path of the archive that 'segue package' built."
  type        = string
  nullable    = false
  validation {
    condition     = fileexists(var.archive)
    error_message = "The function's archive does not exist; build it with 'make archives', or set archives_dir to the folder that contains it."
  }
}

variable "code_bucket" {
  description = "Bucket for the archive."
  type        = string
  nullable    = false
}

variable "builder" {
  description = "E-mail of the identity that builds the function's container."
  type        = string
  nullable    = false
}

variable "repository" {
  description = "Id of the registry for the function's container: projects/P/locations/L/repositories/R."
  type        = string
  nullable    = false
}

variable "environment" {
  description = "The function's settings, by the names in shared/segue/model/settings.py."
  type        = map(string)
  nullable    = false
  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^SEGUE_[A-Z_]+$", name))])
    error_message = "Names of settings must begin with SEGUE_; keep secrets out of a function's environment."
  }
}

variable "labels" {
  description = "Labels of all resources that can have them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "memory" {
  description = "Memory of an instance."
  type        = string
  default     = "512Mi"
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]+(k|M|G|Mi|Gi)$", var.memory))
    error_message = "Memory is a whole number with a unit of k, M, G, Mi or Gi; write one such as 512Mi."
  }
}

variable "concurrency" {
  description = "Requests that one instance serves at a time."
  type        = number
  default     = 1
  nullable    = false
  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 1000
    error_message = "An instance serves 1 to 1,000 requests at a time; they mostly wait for Firestore and Pub/Sub, so write about 40."
  }
}

variable "min_instances" {
  description = "Instances that always run; 0 scales to zero and costs nothing."
  type        = number
  default     = 0
  nullable    = false
  validation {
    condition     = var.min_instances >= 0 && floor(var.min_instances) == var.min_instances
    error_message = "The number of instances must be a whole number, 0 or more; write 0 to scale to zero."
  }
}

variable "max_instances" {
  description = "Maximum number of instances, which limits the cost and the load on the ledger."
  type        = number
  default     = 10
  nullable    = false
  validation {
    condition     = var.max_instances >= 1 && var.max_instances >= var.min_instances
    error_message = "max_instances must be at least 1 and at least min_instances; raise max_instances or lower min_instances."
  }
}

variable "timeout_s" {
  description = "Timeout of one request."
  type        = number
  default     = 60
  nullable    = false
  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 540
    error_message = "A function that events trigger has 1 to 540 seconds; split the work if it needs more."
  }
}

variable "ingress" {
  description = "Where it can be reached from: ALLOW_INTERNAL_ONLY, ALLOW_INTERNAL_AND_GCLB or ALLOW_ALL."
  type        = string
  default     = "ALLOW_INTERNAL_ONLY"
  nullable    = false
  validation {
    condition     = contains(["ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB", "ALLOW_ALL"], var.ingress)
    error_message = "Ingress must be ALLOW_INTERNAL_ONLY (enough for events), ALLOW_INTERNAL_AND_GCLB (behind a load balancer) or ALLOW_ALL (identities are still checked)."
  }
}

variable "trigger" {
  description = "The event that triggers the function, and its source: a bucket or a topic. Null for an HTTP function."
  type = object({
    type     = string
    location = string
    bucket   = optional(string)
    topic    = optional(string) # its id, projects/P/topics/T
  })
  default = null
  validation {
    condition     = var.trigger == null ? true : (var.trigger.bucket == null) != (var.trigger.topic == null)
    error_message = "An event comes from a bucket or from a topic; set exactly one of the two."
  }
}

variable "pubsub_agent_member" {
  description = "The service agent of the project's Pub/Sub, as an IAM member: it moves events that fail to the dead letters."
  type        = string
  default     = null
  validation {
    condition     = var.trigger == null || var.pubsub_agent_member != null
    error_message = "Pub/Sub itself moves an event to the dead letters, so set pubsub_agent_member to its service agent (google_project_service_identity of pubsub.googleapis.com)."
  }
}

variable "ledger_database" {
  description = "Name of the Firestore database that the function may read and write."
  type        = string
  nullable    = false
}

variable "publishes_to" {
  description = "Names of the topics that the function may publish to, by keys that are known at plan time."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "bucket_roles" {
  description = "Roles of the function on buckets; a prefix limits a role to names that begin with it."
  type = map(object({
    bucket = string
    role   = string
    prefix = optional(string)
  }))
  default  = {}
  nullable = false
  validation {
    condition = alltrue([
      for grant in var.bucket_roles :
      !contains(["roles/owner", "roles/editor", "roles/viewer", "roles/storage.admin"], grant.role)
    ])
    error_message = "Basic roles and roles/storage.admin allow more than any function's code needs; write a narrower role, such as roles/storage.objectViewer."
  }
  validation {
    condition     = alltrue([for grant in var.bucket_roles : endswith(coalesce(grant.prefix, "/"), "/")])
    error_message = "A prefix must end with a slash, or music would include music-private; write music/."
  }
}

variable "invokers" {
  description = "Who may call the function over HTTP, as IAM members."
  type        = set(string)
  default     = []
  nullable    = false
  validation {
    condition     = length(setintersection(var.invokers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "A request costs money, so unknown callers may not make one; name people, groups or service accounts, such as group:curators@example.com."
  }
  validation {
    condition     = alltrue([for member in var.invokers : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):.+$", member))])
    error_message = "An invoker is an IAM member; write user:, group:, serviceAccount:, domain:, principal: or principalSet: before the name."
  }
}

variable "kms_key" {
  description = "Key that encrypts the function's source, container and dead letters; null uses Google's keys."
  type        = string
  default     = null
}
