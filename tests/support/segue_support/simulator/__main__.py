"""Run histories by hand: one that is printed, or as many as you like.

python -m segue_support.simulator --seed 7
python -m segue_support.simulator --seed 7 --shrink
python -m segue_support.simulator --runs 1000000 --jobs 2
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from dataclasses import fields
from typing import TextIO

from segue_support.simulator.promises import Broken
from segue_support.simulator.scenario import Scenario, scenario_of
from segue_support.simulator.shrink import broken, shrink
from segue_support.simulator.world import World

CHUNK = 500


def main(words: list[str] | None = None) -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(
        prog="python -m segue_support.simulator", description="Run simulated histories."
    )
    parser.add_argument("--seed", type=int, help="Print one history (with --runs: the first seed).")
    parser.add_argument("--shrink", action="store_true", help="Make what breaks smaller first.")
    parser.add_argument("--runs", type=int, default=0, help="Run so many histories.")
    parser.add_argument("--jobs", type=int, default=1, help="Processes to use.")
    given = parser.parse_args(words)
    if given.runs:
        return _many(given.seed or 0, given.runs, given.jobs, shrinks=given.shrink)
    scenario = scenario_of(given.seed or 0)
    return _one(shrink(scenario, _told) if given.shrink else scenario)


def _told(scenario: Scenario) -> None:
    sizes = (len(scenario.shape), len(scenario.events), scenario.trouble.total)
    _say("still broken with {} jobs, {} events, {} troubles".format(*sizes), sys.stderr)


def _one(scenario: Scenario) -> int:
    """Print a history."""
    for field in fields(scenario):
        _say(f"{field.name:16} {getattr(scenario, field.name)}")
    world = World(scenario, keep_history=True)
    error = None
    try:
        world.run()
    except Broken as caught:
        error = caught
    for line in world.history or ():
        _say(line)
    _say("all promises are kept" if error is None else f"BROKEN {error}")
    return int(error is not None)


def _chunk(seeds: range) -> list[tuple[int, str]]:
    return [(seed, str(error)) for seed in seeds if (error := broken(scenario_of(seed)))]


def _many(first: int, runs: int, jobs: int, *, shrinks: bool) -> int:
    """Run many histories, and tell how far it is."""
    began = time.monotonic()
    chunks = [range(at, min(at + CHUNK, first + runs)) for at in range(first, first + runs, CHUNK)]
    bad: list[tuple[int, str]] = []
    done = 0
    with multiprocessing.Pool(jobs) as pool:
        for found in pool.imap_unordered(_chunk, chunks):
            for seed, why in found:
                _say(f"seed {seed}: {why[:300]}")
            bad += found
            done = min(done + CHUNK, runs)
            rate = done / (time.monotonic() - began)
            _say(f"{done:,} of {runs:,}, {rate:,.0f} a second, {len(bad)} broken", sys.stderr)
    if bad and shrinks:
        _one(shrink(scenario_of(min(bad)[0]), _told))
    return int(bool(bad))


def _say(line: str, to: TextIO | None = None) -> None:
    print(line, file=to)


if __name__ == "__main__":
    sys.exit(main())
