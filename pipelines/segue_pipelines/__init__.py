"""The pipelines on Apache Beam: backfill, reconcile and streaming."""
