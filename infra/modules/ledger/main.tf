# The ledger: a Firestore database with exactly the indexes that its queries need.

locals {
  # As in shared/segue/adapters/firestore_indexes.py.
  collection = "files"
  indexes = {
    "open"    = [{ field = "open", array = true }, { field = "uri", array = false }]
    "deleted" = [{ field = "deleted", array = false }, { field = "uri", array = false }]
  }

  # By default Firestore indexes every field: that multiplies the cost of a write, and an index on a growing
  # value limits the collection to 500 writes per second.
  exempt     = ["uri", "deleted", "open", "expires_at", "record"]
  expires_at = "expires_at" # only tombstones have it
}

resource "google_firestore_database" "ledger" {
  project                           = var.project
  name                              = var.database
  location_id                       = var.location
  type                              = "FIRESTORE_NATIVE"
  delete_protection_state           = var.delete_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.delete_protection ? "PREVENT" : "DELETE"
  point_in_time_recovery_enablement = var.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"

  dynamic "cmek_config" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      kms_key_name = cmek_config.value
    }
  }
}

resource "google_firestore_index" "query" {
  for_each = local.indexes

  project     = var.project
  database    = google_firestore_database.ledger.name
  collection  = local.collection
  query_scope = "COLLECTION"

  # Over millions of records a build takes hours. The provider would give up after twenty minutes and forget
  # the index, and the next apply would be refused it, because it exists. 'segue doctor --cloud' says when it is ready.
  skip_wait = true

  dynamic "fields" {
    for_each = each.value
    content {
      field_path   = fields.value.field
      order        = fields.value.array ? null : "ASCENDING"
      array_config = fields.value.array ? "CONTAINS" : null
    }
  }
}

resource "google_firestore_field" "exempt" {
  for_each = toset(local.exempt)

  project    = var.project
  database   = google_firestore_database.ledger.name
  collection = local.collection
  field      = each.value

  index_config {} # no index of its own

  dynamic "ttl_config" {
    for_each = each.value == local.expires_at ? [true] : []
    content {}
  }
}

# Results are counted by the elements of this array.
resource "google_firestore_field" "done" {
  project    = var.project
  database   = google_firestore_database.ledger.name
  collection = local.collection
  field      = "done"

  index_config {
    indexes {
      array_config = "CONTAINS"
      query_scope  = "COLLECTION"
    }
  }
}

resource "google_firestore_backup_schedule" "daily" {
  count = var.backup_kept_days > 0 ? 1 : 0

  project   = var.project
  database  = google_firestore_database.ledger.name
  retention = "${var.backup_kept_days * 86400}s"

  daily_recurrence {}
}
