mock_provider "google" {}

variables {
  project  = "acme-segue-dev"
  database = "segue"
  location = "europe-west1"
}

run "the_indexes_are_those_of_the_queries" {
  command = plan

  assert {
    condition = toset([
      for index in google_firestore_index.query : join(", ", [for field in index.fields : "${field.field_path} ${coalesce(field.order, field.array_config)}"])
    ]) == toset(["open CONTAINS, uri ASCENDING", "deleted ASCENDING, uri ASCENDING"])
    error_message = "There must be two indexes, as in shared/segue/adapters/firestore_indexes.py."
  }
  assert {
    condition     = alltrue([for index in google_firestore_index.query : index.collection == "files" && index.query_scope == "COLLECTION" && index.skip_wait])
    error_message = "All indexes must be on the one collection, and an apply must not wait for them."
  }
}

run "only_done_has_an_index_of_its_own_and_tombstones_expire" {
  command = plan

  assert {
    condition     = alltrue([for field in google_firestore_field.exempt : length(field.index_config) == 1 && length(one(field.index_config).indexes) == 0])
    error_message = "An exempt field must have an empty index_config."
  }
  assert {
    condition     = [for index in one(google_firestore_field.done.index_config).indexes : index.array_config] == ["CONTAINS"] && length(google_firestore_field.done.ttl_config) == 0
    error_message = "The elements of done must be indexed, and nothing else of it."
  }
  assert {
    condition     = [for field in google_firestore_field.exempt : field.field if length(field.ttl_config) == 1] == ["expires_at"]
    error_message = "Only expires_at may let documents expire."
  }
}

run "data_is_protected_by_default" {
  command = plan

  assert {
    condition     = google_firestore_database.ledger.type == "FIRESTORE_NATIVE" && google_firestore_database.ledger.delete_protection_state == "DELETE_PROTECTION_ENABLED" && google_firestore_database.ledger.deletion_policy == "PREVENT"
    error_message = "By default, the ledger must be protected from deletion."
  }
  assert {
    condition     = google_firestore_database.ledger.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED" && length(google_firestore_backup_schedule.daily) == 0
    error_message = "By default, the last week must be restorable, and there must be no backup."
  }
  assert {
    condition     = output.url == "firestore://acme-segue-dev/segue"
    error_message = "The URL must name project and database."
  }
}

run "an_unprotected_ledger_can_be_deleted" {
  command = plan
  variables {
    delete_protection      = false
    point_in_time_recovery = false
    backup_kept_days       = 7
  }

  assert {
    condition     = google_firestore_database.ledger.delete_protection_state == "DELETE_PROTECTION_DISABLED" && google_firestore_database.ledger.deletion_policy == "DELETE" && google_firestore_database.ledger.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_DISABLED"
    error_message = "An unprotected ledger must be deleted when it is destroyed."
  }
  assert {
    condition     = google_firestore_backup_schedule.daily[0].retention == "604800s"
    error_message = "Backups must be kept for as long as configured."
  }
}

run "a_short_name_is_refused" {
  command = plan
  variables { database = "db" }
  expect_failures = [var.database]
}

run "backups_beyond_fourteen_weeks_are_refused" {
  command = plan
  variables { backup_kept_days = 99 }
  expect_failures = [var.backup_kept_days]
}
