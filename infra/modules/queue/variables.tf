variable "project" {
  description = "Project that holds the topics."
  type        = string
  nullable    = false
}

variable "prefix" {
  description = "Prefix of all names, which is the path of the queue's URL, pubsub://PROJECT/PREFIX."
  type        = string
  nullable    = false
}

variable "topics" {
  description = "The topics, each with its labels."
  type        = map(object({ labels = optional(map(string), {}) }))
  nullable    = false
}

variable "subscriptions" {
  description = "The subscriptions, each with the topic that it is attached to, the URL of the queue that has it if that is another namespace's, and its labels."
  type        = map(object({ topic = string, queue = optional(string), labels = optional(map(string), {}) }))
  nullable    = false
  validation {
    condition     = alltrue([for subscription in var.subscriptions : subscription.queue != null || contains(keys(var.topics), subscription.topic)])
    error_message = "A subscription is attached to one of the topics; add the missing one to topics."
  }
  validation {
    condition     = alltrue([for subscription in var.subscriptions : subscription.queue == null || can(regex("^pubsub://[^/]+(/[^/]+)?/?$", subscription.queue))])
    error_message = "The queue of another namespace is pubsub://PROJECT or pubsub://PROJECT/PREFIX; lock the graph to a namespace whose queue is in Pub/Sub."
  }
}

variable "persistence_regions" {
  description = "Regions in which messages may be stored; if there are none, the organisation's policy applies."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "kms_key" {
  description = "Key that encrypts the topics: projects/P/locations/L/keyRings/R/cryptoKeys/K; null uses Google's keys."
  type        = string
  default     = null
}

variable "retention_days" {
  description = "Days for which an unacknowledged message is kept."
  type        = number
  default     = 7
  nullable    = false
  validation {
    condition     = var.retention_days >= 1 && var.retention_days <= 31
    error_message = "Pub/Sub keeps messages for 1 to 31 days; write a number in this range. 'segue reconcile' finds what is older."
  }
}

variable "dead_retention_days" {
  description = "Days for which a dead letter is kept."
  type        = number
  default     = 31
  nullable    = false
  validation {
    condition     = var.dead_retention_days >= 1 && var.dead_retention_days <= 31
    error_message = "Pub/Sub keeps dead letters for 1 to 31 days; write a number in this range. The ledger keeps the failures themselves."
  }
}
