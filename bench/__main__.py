"""Run all benchmarks, or say which there are: ``python -m bench [--list]``."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = {
    "overhead": "what the framework costs a file and job, against a bare Beam pipeline",
    "throughput": "real jobs on all cores, against a plain multiprocessing pool",
    "streaming": "from arrival to last artifact, sustained rate, and what a kill loses",
    "planning": "planning and skipping over 200,000 finished files",
    "memory": "memory as the catalogue grows ten times",
    "functions": "a function's start and work, against its clients' import and the bare calls",
    "downsample": "CPU of downsampling a song of three and a half minutes",
}


def main() -> int:
    """Run what is asked for; the first that fails ends it."""
    if "--list" in sys.argv:
        for name, what in BENCHMARKS.items():
            print(f"python -m bench.{name:<11} {what}")
        return 0
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
