"""What happens when a file arrives or is deleted, results are requested, or the sweep runs."""
