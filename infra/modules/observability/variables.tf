variable "project" {
  description = "Project that is observed."
  type        = string
  nullable    = false
}

variable "environment" {
  description = "Which environment this is, for titles."
  type        = string
  nullable    = false
}

variable "prefix" {
  description = "What every name begins with: all that is so called is observed, a job that is added included."
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
  description = "Who is told by e-mail."
  type        = set(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", email))])
    error_message = "That is no e-mail address; write one such as audio-oncall@example.com."
  }
}

variable "channels" {
  description = "Notification channels that exist, such as a pager's: projects/P/notificationChannels/ID."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for channel in var.channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "A channel is named projects/PROJECT/notificationChannels/ID, as 'gcloud beta monitoring channels list' shows it."
  }
}

variable "thresholds" {
  description = "From when somebody is told."
  type = object({
    live_age_s       = optional(number, 3600)  # the oldest arrival that nobody has taken
    requests_age_s   = optional(number, 86400) # the oldest request: a large one rightly waits
    failure_ratio    = optional(number, 0.05)  # of a job's files in an hour
    failure_minimum  = optional(number, 20)    # files in that hour, below which a ratio says nothing
    system_lag_s     = optional(number, 90000) # of both lanes: beyond requests_age_s, as what waits in a subscription counts
    watermark_age_s  = optional(number, 90000) # likewise
    sweep_silence_s  = optional(number, 10800)
    function_5xx     = optional(number, 10) # in ten minutes
    auto_close_hours = optional(number, 48)
  })
  default  = {}
  nullable = false
  validation {
    condition     = var.thresholds.failure_ratio > 0 && var.thresholds.failure_ratio <= 1
    error_message = "The ratio of failures is a share, above 0 and at most 1; write 0.05 for 5 %."
  }
  validation {
    condition     = var.thresholds.sweep_silence_s >= 600 && var.thresholds.sweep_silence_s <= 84600 && var.thresholds.sweep_silence_s % 60 == 0
    error_message = "Silence is told after 600 to 84,600 seconds in whole minutes, which is what Monitoring takes; write at least three times the sweep's interval."
  }
  validation {
    condition     = alltrue([for seconds in [var.thresholds.live_age_s, var.thresholds.requests_age_s, var.thresholds.system_lag_s, var.thresholds.watermark_age_s] : seconds >= 60])
    error_message = "Ages and lags are measured once a minute; write 60 seconds or more."
  }
}

variable "budget" {
  description = "What the project may cost a month, and the account that pays; null: no budget."
  type = object({
    billing_account = string
    amount          = number # whole units of the account's currency
    currency        = optional(string)
    shares          = optional(list(number), [0.5, 0.9, 1.0])
  })
  default = null
  validation {
    condition     = var.budget == null ? true : can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "A billing account is named by three groups of six digits, such as 012345-6789AB-CDEF01; 'gcloud billing accounts list' shows yours."
  }
  validation {
    condition     = var.budget == null ? true : var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount
    error_message = "A budget is a whole amount of at least 1 in the currency of the account; write one such as 500."
  }
  validation {
    condition     = var.budget == null ? true : var.budget.currency == null ? true : can(regex("^[A-Z]{3}$", var.budget.currency))
    error_message = "A currency is three capital letters, such as EUR; leave it out to take the account's."
  }
}
