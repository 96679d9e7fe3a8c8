"""Run simulated histories from the command line: print one, or check many.

python -m segue_support.simulator --seed 7
python -m segue_support.simulator --seed 7 --shrink
python -m segue_support.simulator --seeds 0:1000000 --jobs 2
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
from dataclasses import fields
from typing import TextIO

from segue_support.seeds import parse_seeds
from segue_support.simulator.drawing import draw_scenario
from segue_support.simulator.faults import BrokenPromise
from segue_support.simulator.scenario import Scenario
from segue_support.simulator.shrinker import find_broken_promise, shrink
from segue_support.simulator.simulation import Simulation

CHUNK = 500


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and run histories; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m segue_support.simulator", description="Run simulated histories."
    )
    parser.add_argument("--seed", type=int, default=0, help="Print one history.")
    parser.add_argument("--shrink", action="store_true", help="Shrink a broken history first.")
    parser.add_argument(
        "--seeds",
        type=parse_seeds,
        metavar="FIRST:END",
        help="Run these histories, and print none.",
    )
    parser.add_argument("--jobs", type=int, default=1, help="Processes to use.")
    arguments = parser.parse_args(argv)
    if arguments.seeds:
        return _run_many(arguments.seeds, arguments.jobs, shrinks=arguments.shrink)
    scenario = draw_scenario(arguments.seed)
    return _print_history(shrink(scenario, _print_size) if arguments.shrink else scenario)


def _print_size(scenario: Scenario) -> None:
    jobs = sum(len(layout.shape) for layout in scenario.layouts)
    sizes = (jobs, len(scenario.events), scenario.faults.total)
    _print("still broken with {} jobs, {} events, {} faults".format(*sizes), sys.stderr)


def _print_history(scenario: Scenario) -> int:
    """Run a history and print it; return 1 if it breaks a promise."""
    for field in fields(scenario):
        _print(f"{field.name:16} {getattr(scenario, field.name)}")
    simulation = Simulation(scenario, keep_history=True)
    error = None
    try:
        simulation.run()
    except BrokenPromise as caught:
        error = caught
    for line in simulation.world.history or ():
        _print(line)
    if error is not None and error.__cause__ is not None:
        traceback.print_exception(error.__cause__)
    _print("all promises are kept" if error is None else f"BROKEN {error}")
    return int(error is not None)


def _run_chunk(seeds: range) -> list[tuple[int, str]]:
    return [
        (seed, str(error)) for seed in seeds if (error := find_broken_promise(draw_scenario(seed)))
    ]


def _run_many(seeds: range, jobs: int, *, shrinks: bool) -> int:
    """Run many histories, print the progress, and in the end the figures."""
    started_s = time.monotonic()
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    bad: list[tuple[int, str]] = []
    done = 0
    with multiprocessing.Pool(jobs) as pool:
        for found in pool.imap_unordered(_run_chunk, chunks):
            for seed, message in found:
                _print(f"seed {seed}: {message[:300]}")
            bad += found
            done = min(done + CHUNK, len(seeds))
            rate = done / (time.monotonic() - started_s)
            _print(f"{done:,} of {len(seeds):,}, {rate:,.0f} per second", sys.stderr)
    _print(f"{len(seeds):,} histories: {len(bad)} broke a promise")
    if bad and shrinks:
        _print_history(shrink(draw_scenario(min(bad)[0]), _print_size))
    return int(bool(bad))


def _print(line: str, to: TextIO | None = None) -> None:
    print(line, file=to)


if __name__ == "__main__":
    sys.exit(main())
