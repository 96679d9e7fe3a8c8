output "url" {
  description = "Value of SEGUE_LEDGER."
  value       = "firestore://${var.project}/${google_firestore_database.ledger.name}"
}

output "database" {
  description = "Name of the database, for IAM conditions."
  value       = google_firestore_database.ledger.name
}

output "indexes" {
  description = "The fields of each composite index, with the names of shared/segue/adapters/firestore_indexes.py."
  value       = [for index in google_firestore_index.query : [for field in index.fields : field.field_path]]
}

output "exemptions" {
  description = "The fields without an index of their own."
  value       = [for field in google_firestore_field.exempt : field.field]
}
