variable "project" {
  description = "Project to monitor."
  type        = string
  nullable    = false
}

variable "environment" {
  description = "Name of the environment, for titles."
  type        = string
  nullable    = false
}

variable "prefix" {
  description = "Prefix of all names; every resource with it is monitored, including those of new jobs."
  type        = string
  nullable    = false
}

variable "functions" {
  description = "Names of the functions' services."
  type        = set(string)
  nullable    = false
}

variable "labels" {
  description = "Labels of the alerts and channels."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "emails" {
  description = "Addresses that get alerts by e-mail."
  type        = set(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", email))])
    error_message = "A value is not an e-mail address; write one such as audio-oncall@example.com."
  }
}

variable "channels" {
  description = "Existing notification channels, such as a pager's: projects/P/notificationChannels/ID."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for channel in var.channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "A channel's name is projects/PROJECT/notificationChannels/ID; 'gcloud beta monitoring channels list' shows it."
  }
}

variable "thresholds" {
  description = "When alerts fire."
  type = object({
    arrivals_age_s   = optional(number, 3600)  # age of the oldest arrival, or event of a finished job
    requests_age_s   = optional(number, 86400) # age of the oldest request; a large one may wait long
    failure_ratio    = optional(number, 0.05)  # of a job's files in an hour
    failure_minimum  = optional(number, 20)    # files in that hour, below which the ratio is meaningless
    system_lag_s     = optional(number, 90000) # of arrivals and requests: above requests_age_s, because messages that wait in a subscription count
    watermark_age_s  = optional(number, 90000) # likewise
    sweep_silence_s  = optional(number, 10800)
    function_5xx     = optional(number, 10) # in ten minutes
    auto_close_hours = optional(number, 48)
  })
  default  = {}
  nullable = false
  validation {
    condition     = var.thresholds.failure_ratio > 0 && var.thresholds.failure_ratio <= 1
    error_message = "The ratio of failures must be above 0 and at most 1; write 0.05 for 5 %."
  }
  validation {
    condition     = var.thresholds.sweep_silence_s >= 600 && var.thresholds.sweep_silence_s <= 84600 && var.thresholds.sweep_silence_s % 60 == 0
    error_message = "Monitoring accepts 600 to 84,600 seconds in whole minutes; write at least three times the sweep's interval."
  }
  validation {
    condition     = alltrue([for seconds in [var.thresholds.arrivals_age_s, var.thresholds.requests_age_s, var.thresholds.system_lag_s, var.thresholds.watermark_age_s] : seconds >= 60])
    error_message = "Ages and lags are measured once a minute; write 60 seconds or more."
  }
}

variable "budget" {
  description = "What the project may cost per month, and the account that pays; null creates no budget."
  type = object({
    billing_account = string
    amount          = number # whole units of the account's currency
    currency        = optional(string)
    shares          = optional(list(number), [0.5, 0.9, 1.0])
  })
  default = null
  validation {
    condition     = var.budget == null ? true : can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "A billing account's id has three groups of six hexadecimal digits, such as 012345-6789AB-CDEF01; 'gcloud billing accounts list' shows yours."
  }
  validation {
    condition     = var.budget == null ? true : var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount
    error_message = "A budget must be a whole amount of at least 1 in the account's currency; write one such as 500."
  }
  validation {
    condition     = var.budget == null ? true : var.budget.currency == null ? true : can(regex("^[A-Z]{3}$", var.budget.currency))
    error_message = "A currency is three capital letters, such as EUR; leave it out to use the account's."
  }
}
