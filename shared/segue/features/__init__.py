"""The built-in feature jobs: pure functions on sound, one module a topic."""
