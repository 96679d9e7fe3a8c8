"""Runs the whole system on one machine: a folder watcher, the functions and the pipelines."""
