"""For tests of jobs: audio with known properties, and a runner in a real pool of children."""
