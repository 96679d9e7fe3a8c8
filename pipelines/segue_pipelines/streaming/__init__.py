"""The streaming pipelines: messages in, artifacts and messages out."""
