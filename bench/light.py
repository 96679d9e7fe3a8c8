"""CPU of all default jobs on a stereo MP3 of three and a half minutes, stage by stage; each job
against plain calls of libraries; and the first call of each in a new process.

    python -m bench.light [--rounds N] [--first-calls N] [--song FILE] [--baseline CHECKOUT]

The CPU is that of the process and of those that it starts, with one thread. The other checkout has
its own environment in ``CHECKOUT/.venv``, and takes turns with this one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from bench.measure import ROOT, report

SONG_S = 210.0
PROGRAM = os.path.join(ROOT, "bench", "stages.py")

Numbers = dict[str, list[float]]  # by stage, for each round


class Stages:
    """A process of a checkout that runs a round whenever it is asked to.

    Parameters
    ----------
    folder : str
        The checkout.
    song : str
        The media file.
    mode : str
        As in `bench.stages`.
    """

    def __init__(self, folder: str, song: str, *mode: str) -> None:
        self.jobs: Numbers = {}
        self.plain: Numbers = {}
        self.encoding: Numbers = {}  # by job
        self._process = subprocess.Popen(
            list_arguments(folder, song, *mode),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run_round(self) -> Any:
        """Run a round, and return its five parts: `bench.stages.Round`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{PROGRAM} ended with {self._process.wait()}")
        return json.loads(line)

    def count_round(self) -> Any:
        """Run a round, keep its numbers, and return its parts."""
        parts = self.run_round()
        for numbers, stages in zip((self.jobs, self.plain, self.encoding), parts[:3], strict=True):
            for name, spent_ms in stages.items():
                numbers.setdefault(name, []).append(spent_ms)
        return parts

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def list_arguments(folder: str, song: str, *mode: str) -> list[str]:
    """Return the command that runs `bench.stages`, of this checkout, in the Python of another."""
    is_here = os.path.samefile(folder, ROOT)
    python = sys.executable if is_here else os.path.join(folder, ".venv/bin/python")
    return [python, "-P", PROGRAM, song, *mode]


def ask(folder: str, song: str, *mode: str) -> Any:
    """Return what a new process of a checkout prints."""
    ran = subprocess.run(
        list_arguments(folder, song, *mode),
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout)


def sum_up(numbers: Numbers) -> dict[str, tuple[float, float]]:
    """Return the lowest and the median CPU of each stage, and of all together."""
    rows = {name: (min(spent), statistics.median(spent)) for name, spent in numbers.items()}
    least, median = (sum(column) for column in zip(*rows.values(), strict=True))
    return {**rows, "all": (least, median)}


def measure_stages(song: str, rounds: int, baseline: str | None) -> None:
    """Measure all stages in turn, and print the two tables."""
    here = Stages(ROOT, song, "plain")
    there = Stages(baseline, song) if baseline else None
    running = [stages for stages in (here, there) if stages is not None]
    for stages in running:
        stages.run_round()  # what happens at first use
    for _ in range(rounds):
        for stages in running:
            stages.count_round()
    for stages in running:
        stages.close()
    print_stages(here.jobs, there.jobs if there else {})
    for name, spent_ms in here.plain.items():
        job_ms, plain_ms = min(here.jobs[name]), min(spent_ms)
        report(
            benchmark="light",
            job=name,
            job_ms=round(job_ms, 1),
            plain_ms=round(plain_ms, 1),
            ratio=round(job_ms / plain_ms, 3),
        )


def print_stages(here: Numbers, there: Numbers) -> None:
    """Print a line for each stage, and one for their sum."""
    baseline = sum_up(there) if there else {}
    for name, (least, median) in sum_up(here).items():
        line: dict[str, Any] = {"min_ms": round(least, 1), "median_ms": round(median, 1)}
        if name in baseline:
            other_least, other_median = baseline[name]
            line["baseline_min_ms"] = round(other_least, 1)
            line["baseline_median_ms"] = round(other_median, 1)
            line["ratio"] = round(least / other_least, 3)
        report(benchmark="light", stage=name, **line)


def measure_first_calls(song: str, rounds: int, baseline: str | None) -> None:
    """Measure the first call of each job in new processes, and print."""
    folders = {"": ROOT, **({"baseline_": baseline} if baseline else {})}
    known = {prefix: ask(folder, song, "list") for prefix, folder in folders.items()}
    for name in known[""] if rounds else []:
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(rounds):
            for prefix, folder in folders.items():
                if name in known[prefix]:
                    found.setdefault(prefix, []).append(ask(folder, song, "first", name))
        columns = {
            prefix + column: round(min(row[column] for row in rows))
            for prefix, rows in found.items()
            for column in rows[0]
        }
        report(benchmark="light", first_call=name, **columns)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--first-calls", type=int, default=3, help="processes for each job")
    parser.add_argument("--song", metavar="FILE", help="instead of a synthesised one")
    parser.add_argument("--baseline", metavar="CHECKOUT")
    given = parser.parse_args()
    if given.baseline and not os.path.exists(os.path.join(given.baseline, ".venv/bin/python")):
        parser.error(f"{given.baseline} has no .venv; name a checkout, and run 'make setup' in it")
    with tempfile.TemporaryDirectory() as folder:
        song = os.path.abspath(given.song) if given.song else make_song(folder)
        measure_stages(song, given.rounds, given.baseline)
        measure_first_calls(song, given.first_calls, given.baseline)


def make_song(folder: str) -> str:
    """Synthesise a song, and return its path."""
    from segue.testing.music import music
    from segue.testing.sound import write

    song = music(1, bpm=120, duration_s=SONG_S, sr=44100, channels=2)
    return write(song, os.path.join(folder, "song.mp3"))


if __name__ == "__main__":
    main()
