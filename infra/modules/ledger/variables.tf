variable "project" {
  description = "Project that holds the database."
  type        = string
  nullable    = false
}

variable "database" {
  description = "Name of the Firestore database, which is the path of the ledger's URL, firestore://PROJECT/DATABASE."
  type        = string
  nullable    = false
  validation {
    condition     = var.database == "(default)" || can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.database))
    error_message = "The database's name must be (default), or 4 to 63 lower-case letters, digits or hyphens that start with a letter and do not end with a hyphen; write one such as segue."
  }
}

variable "location" {
  description = "Location of the ledger: a region, or a multi-region such as eur3 or nam5; it can never be changed."
  type        = string
  nullable    = false
}

variable "delete_protection" {
  description = "Whether Firestore refuses to delete the database."
  type        = bool
  default     = true
  nullable    = false
}

variable "point_in_time_recovery" {
  description = "Whether the database can be read and restored as of any minute of the last seven days."
  type        = bool
  default     = true
  nullable    = false
}

variable "backup_kept_days" {
  description = "Days for which a daily backup is kept; 0 disables backups."
  type        = number
  default     = 0
  nullable    = false
  validation {
    condition     = var.backup_kept_days >= 0 && var.backup_kept_days <= 98
    error_message = "Firestore keeps a backup for at most 98 days (14 weeks); write 0 to 98, where 0 disables backups."
  }
}

variable "kms_key" {
  description = "Key that encrypts the database: projects/P/locations/L/keyRings/R/cryptoKeys/K; null uses Google's keys."
  type        = string
  default     = null
}
