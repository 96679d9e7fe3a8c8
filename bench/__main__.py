"""Run all benchmarks, or list them: ``python -m bench [--list]``."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = {
    "counts": "documents and messages per file, on the emulators of Firestore and Pub/Sub",
    "teams": "documents, messages and waits of a hundred namespaces below one, on the emulators",
    "overhead": "the framework's cost per file and job, against a bare Beam pipeline",
    "throughput": "real jobs on all cores, against a plain multiprocessing pool",
    "streaming": "latency from arrival to last artifact, sustained rate, and cost",
    "planning": "planning and skipping over 200,000 finished files",
    "export": "results as Parquet, against reading the same JSON files by hand",
    "console": "the console's pages with a million files, against a thousand",
    "memory": "memory as the catalogue grows tenfold",
    "long_audio": "memory of each built-in job on three and six hours of audio",
    "functions": "a function's start and work, against its clients' import and the bare calls",
    "batches": "a model that takes batches, against one that is called for each file",
    "downsample": "CPU of downsampling a song of three and a half minutes",
    "jobs": "CPU of each job that ships with Segue, against plain calls",
    "light": "CPU of all default jobs on such a song, by stage, and against plain calls",
}


def main() -> int:
    """Run all benchmarks until one fails, or list them."""
    if "--list" in sys.argv:
        for name, description in BENCHMARKS.items():
            print(f"python -m bench.{name:<11} {description}")
        return 0
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
