"""For tests of jobs: audio with known properties."""
