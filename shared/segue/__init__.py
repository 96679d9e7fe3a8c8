"""The core of Segue in plain Python: what a job, a file, a record and a decision are."""
