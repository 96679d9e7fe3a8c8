"""Everything that runs on Apache Beam, the feature jobs, and the command line."""
