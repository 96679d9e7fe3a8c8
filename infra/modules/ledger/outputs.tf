output "url" {
  description = "What SEGUE_LEDGER is set to."
  value       = "firestore://${var.project}/${google_firestore_database.ledger.name}"
}

output "database" {
  description = "Name of the database; conditions on identities narrow to it."
  value       = google_firestore_database.ledger.name
}

output "indexes" {
  description = "The fields of each composite index, as shared/segue/adapters/firestore_indexes.py names them."
  value       = [for index in google_firestore_index.query : [for field in index.fields : field.field_path]]
}

output "exemptions" {
  description = "The fields that have no index of their own."
  value       = [for field in google_firestore_field.exempt : field.field]
}
