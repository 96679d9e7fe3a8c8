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
  description = "What every name begins with."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,10}[a-z0-9]$", var.prefix))
    error_message = "The prefix must be 4 to 12 lower-case letters, digits or hyphens, start with a letter and not end with a hyphen; write one such as segue."
  }
}

variable "name" {
  description = "The function's name: of its module under functions/, and of the handler in it."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9]{0,11}$", var.name))
    error_message = "A function's name must match [a-z][a-z0-9]* with at most 12 characters: with prefix and -fn- it makes the identity's name, which may have 30; rename the module under functions/."
  }
}

variable "description" {
  description = "What the function does, for the console."
  type        = string
  default     = ""
  nullable    = false
}

variable "archive" {
  description = "Path of the archive that 'segue package' made."
  type        = string
  nullable    = false
  validation {
    condition     = fileexists(var.archive)
    error_message = "The function's archive is not there; make it with 'make archives', or point archives_dir at the folder that holds it."
  }
}

variable "code_bucket" {
  description = "Bucket that takes the archive."
  type        = string
  nullable    = false
}

variable "builder" {
  description = "E-mail of the identity that builds the function's container."
  type        = string
  nullable    = false
}

variable "repository" {
  description = "Id of the registry that takes the function's container: projects/P/locations/L/repositories/R."
  type        = string
  nullable    = false
}

variable "environment" {
  description = "The function's settings, by the names in shared/segue/model/settings.py."
  type        = map(string)
  nullable    = false
  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^SEGUE_[A-Z_]+$", name))])
    error_message = "Only settings that Segue knows are set, SEGUE_...; no secret goes into a function's environment."
  }
}

variable "labels" {
  description = "Labels of all that takes them."
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
  description = "Requests that one instance works on at a time."
  type        = number
  default     = 1
  nullable    = false
  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 1000
    error_message = "An instance takes 1 to 1,000 requests at a time; they wait on Firestore and Pub/Sub, so write about 40."
  }
}

variable "min_instances" {
  description = "Instances that are always there; 0 scales to nothing and costs nothing."
  type        = number
  default     = 0
  nullable    = false
  validation {
    condition     = var.min_instances >= 0 && floor(var.min_instances) == var.min_instances
    error_message = "The number of instances is whole and not negative; write 0 to scale to nothing."
  }
}

variable "max_instances" {
  description = "Instances at most: what bounds the bill, and the load on the ledger."
  type        = number
  default     = 10
  nullable    = false
  validation {
    condition     = var.max_instances >= 1 && var.max_instances >= var.min_instances
    error_message = "There must be room for at least one instance, and for as many as are always there; raise max_instances or lower min_instances."
  }
}

variable "timeout_s" {
  description = "Seconds for one request."
  type        = number
  default     = 60
  nullable    = false
  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 540
    error_message = "A function that is told by events has 1 to 540 seconds; split the work if it needs more."
  }
}

variable "ingress" {
  description = "From where it can be reached: ALLOW_INTERNAL_ONLY, ALLOW_INTERNAL_AND_GCLB or ALLOW_ALL."
  type        = string
  default     = "ALLOW_INTERNAL_ONLY"
  nullable    = false
  validation {
    condition     = contains(["ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB", "ALLOW_ALL"], var.ingress)
    error_message = "Ingress must be ALLOW_INTERNAL_ONLY (events only come that way), ALLOW_INTERNAL_AND_GCLB (behind a load balancer) or ALLOW_ALL (identities are still checked)."
  }
}

variable "trigger" {
  description = "The event that calls the function, and where it happens: a bucket, or a topic. Null: it is called over HTTP."
  type = object({
    type     = string
    location = string
    bucket   = optional(string)
    topic    = optional(string) # its id, projects/P/topics/T
  })
  default = null
  validation {
    condition     = var.trigger == null ? true : (var.trigger.bucket == null) != (var.trigger.topic == null)
    error_message = "An event comes from a bucket or from a topic; name exactly one of the two."
  }
}

variable "dead_letters" {
  description = "What becomes of an event that the function cannot take: the attempts, and the days for which it is kept."
  type = object({
    max_attempts        = optional(number, 100)
    retention_days      = optional(number, 7)
    dead_retention_days = optional(number, 31)
    min_retry_delay_s   = optional(number, 10)
    max_retry_delay_s   = optional(number, 600)
    pubsub_agent_member = optional(string) # serviceAccount:..., of the project's Pub/Sub
    ack_deadline_s      = optional(number, 600)
  })
  default  = {}
  nullable = false
  validation {
    condition     = var.dead_letters.max_attempts >= 5 && var.dead_letters.max_attempts <= 100
    error_message = "An event is put aside after 5 to 100 attempts, which is what Pub/Sub takes; 100 of them, ten seconds to ten minutes apart, bridge 15 hours without a ledger."
  }
  validation {
    condition     = var.trigger == null || var.dead_letters.pubsub_agent_member != null
    error_message = "Pub/Sub itself moves an event to the dead letters, so its service agent must be named in pubsub_agent_member (google_project_service_identity of pubsub.googleapis.com)."
  }
}

variable "ledger_database" {
  description = "Name of the Firestore database that the function may read and write."
  type        = string
  nullable    = false
}

variable "publishes_to" {
  description = "Names of the topics that the function may publish to, by a key that is known beforehand."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "bucket_roles" {
  description = "What the function may do with objects; a prefix narrows it to the names that begin so."
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
    error_message = "Basic roles and roles/storage.admin reach further than any function's code; name the narrow role, such as roles/storage.objectViewer."
  }
}

variable "invokers" {
  description = "Who may call the function over HTTP, as IAM members."
  type        = set(string)
  default     = []
  nullable    = false
  validation {
    condition     = length(setintersection(var.invokers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "A request costs money, so nobody unknown may make one; name people, groups or service accounts, such as group:curators@example.com."
  }
  validation {
    condition     = alltrue([for member in var.invokers : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):.+$", member))])
    error_message = "An invoker is an IAM member; write user:, group:, serviceAccount:, domain:, principal: or principalSet: before the name."
  }
}

variable "kms_key" {
  description = "Key that encrypts the function's source, container and dead letters; null leaves it to Google."
  type        = string
  default     = null
}
