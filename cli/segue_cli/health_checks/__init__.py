"""Checks that everything Segue needs is available, without changing anything."""
