"""The registry: a bucket or folder in which teams publish what others may use of their graphs."""
