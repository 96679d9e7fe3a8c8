"""The ``segue`` command: one module a command."""
