"""Puts Segue's promises to the proof, and prints the figures: ``make prove``.

python -m segue_support.prove --list
python -m segue_support.prove
python -m segue_support.prove media graphs
python -m segue_support.prove histories --seeds 50000:100000

Each part is a command of its own, which takes a range of seeds; a long run can be split into
ranges, and the same seeds give the same input. The last line that a part prints has its figures.
The test suite runs a short form of every part.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from segue_support.seeds import parse_seeds


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the proof."""

    description: str
    command: tuple[str, ...]
    seeds: range


PARTS = {
    "histories": Part(
        "simulated histories of one namespace and of several: deployments, locks, crashes",
        ("segue_support.simulator", "--jobs", str(os.cpu_count() or 1)),
        range(100_000),
    ),
    "kills": Part(
        "ten SIGKILLs a seed, of every kind of process, during work",
        ("segue_support.killed",),
        range(20),
    ),
    "teams": Part(
        "ten SIGKILLs a seed, of the workers of three namespaces on emulators",
        ("segue_support.killed_teams",),
        range(20),
    ),
    "cuts": Part(
        "power cuts: the disk at a random moment (needs root and loop devices)",
        ("segue_support.power_cut",),
        range(50),
    ),
    "media": Part(
        "mutated media files of all accepted containers",
        ("segue_support.mutated_media",),
        range(10_000),
    ),
    "events": Part(
        "malformed events at the functions",
        ("segue_support.malformed_events", "--kind", "events"),
        range(100_000),
    ),
    "messages": Part(
        "malformed messages of the queue",
        ("segue_support.malformed_events", "--kind", "messages"),
        range(100_000),
    ),
    "requests": Part(
        "malformed requests",
        ("segue_support.malformed_events", "--kind", "requests"),
        range(100_000),
    ),
    "graphs": Part(
        "malformed jobs.yaml",
        ("segue_support.malformed_graphs",),
        range(100_000),
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run the parts that are named, or all; return 1 if one of them has found a violation."""
    parser = argparse.ArgumentParser(prog="python -m segue_support.prove", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"One of {', '.join(PARTS)}.")
    parser.add_argument("--seeds", type=parse_seeds, metavar="FIRST:END", help="For one part.")
    parser.add_argument("--list", action="store_true", help="List the parts, and run none.")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.parts if name not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is not a part; name some of {', '.join(PARTS)}")
    if arguments.seeds and len(arguments.parts) != 1:
        parser.error("--seeds needs exactly one part")
    names = arguments.parts or list(PARTS)
    if arguments.list:
        for name in names:
            print(f"{name:<10} {len(PARTS[name].seeds):>7,}  {PARTS[name].description}")
        return 0
    codes = [_run(name, arguments.seeds or PARTS[name].seeds) for name in names]
    return int(any(codes))


def _run(name: str, seeds: range) -> int:
    module, *options = PARTS[name].command
    command = [sys.executable, "-m", module, *options, "--seeds", f"{seeds.start}:{seeds.stop}"]
    print(f"== {name}", flush=True)
    started_s = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    verdict = "kept" if code == 0 else f"NOT PROVED (exit {code})"
    print(f"   {verdict}, {time.monotonic() - started_s:,.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
