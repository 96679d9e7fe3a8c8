"""Run a benchmark of this checkout and of another one in turn, and compare the medians.

    python -m bench.compare [--rounds N] FOLDER BENCHMARK [ARGUMENT...]

The other checkout has its own environment in ``FOLDER/.venv``, and runs its own benchmark of that
name. Other load on the machine then affects both alike. Each number that both print becomes what it
is here, what it is there, and the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import Counter

from bench.measure import ROOT, report

Numbers = dict[tuple[str, int, str], list[float]]  # benchmark, its how manieth line, name → values


def run(python: str, folder: str, arguments: list[str], numbers: Numbers) -> None:
    """Run a benchmark of a checkout, and add the numbers that it prints."""
    ran = subprocess.run(
        [python, "-m", *arguments], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    lines: Counter[str] = Counter()
    for line in map(json.loads, ran.stdout.splitlines()):
        benchmark = line.pop("benchmark")
        for name, value in line.items():
            if isinstance(value, int | float):
                numbers.setdefault((benchmark, lines[benchmark], name), []).append(value)
        lines[benchmark] += 1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("folder")
    parser.add_argument("benchmark")
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    arguments = [f"bench.{given.benchmark}", *given.arguments]
    here: Numbers = {}
    there: Numbers = {}
    for _ in range(given.rounds):
        run(os.path.join(given.folder, ".venv/bin/python"), given.folder, arguments, there)
        run(sys.executable, ROOT, arguments, here)
    lines: dict[tuple[str, int], dict[str, object]] = {}
    for key in here:
        own = statistics.median(here[key])
        other = statistics.median(there[key]) if key in there else None
        benchmark, number, name = key
        ratio = round(own / other, 3) if other else None
        lines.setdefault((benchmark, number), {})[name] = [own, other, ratio]
    for (benchmark, _), values in lines.items():
        report(benchmark=benchmark, rounds=given.rounds, **values)


if __name__ == "__main__":
    main()
