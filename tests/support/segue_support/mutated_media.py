"""Damage media files of every kind at random, and run jobs on them that read the source.

python -m segue_support.mutated_media --seeds 0:10000

A seed chooses a container and what is done to its bytes. Whatever a file has become, each job gives
an artifact that can be read back, is not for the file, or gives the failure ``corrupt_media`` or
``too_large``; no job runs into its deadline, and no worker dies.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from segue import codec
from segue.errors import Kind, SegueError
from segue.model.graph import Graph, read_graph
from segue.model.record import State
from segue.model.transitions import Result
from segue.worker.protocol import Task
from segue_support.media_seeds import NAMES, PICTURES, read_seeds
from segue_support.paths import GRAPH
from segue_support.seeds import parse_seeds
from segue_support.trial import Trial, run_tasks

BUILT_IN = ("downsample", "loudness", "probe")
# Those of the tests: the mean colour of an image, and of the key frames of a film.
PICTURE_JOBS = ("colour", "colours")
JOBS = (*BUILT_IN, *PICTURE_JOBS)
TIMEOUT_S = 20.0
BATCH = 200  # files on the disk at once
EXPECTED = (Kind.CORRUPT_MEDIA, Kind.TOO_LARGE)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)
BYTE_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
HEADER_BYTES = 512

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def flip_bits(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    """Flip one to sixteen bits."""
    for _ in range(rng.choice((1, 2, 4, 16))):
        data[_draw_place(rng, data)] ^= 1 << rng.randrange(8)


def truncate(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    """Cut the file off."""
    del data[rng.randrange(len(data)) :]


def set_number(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    """Overwrite a length, count or offset of two to eight bytes with an extreme value."""
    place, size = _draw_place(rng, data), rng.choice((2, 4, 8))
    value = rng.choice(EXTREMES) & (1 << 8 * size) - 1
    data[place : place + size] = value.to_bytes(size, rng.choice(BYTE_ORDERS))


def change_number(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    """Double or halve a number of four bytes, or change it by a little."""
    place = _draw_place(rng, data)
    order = rng.choice(BYTE_ORDERS)
    old = int.from_bytes(data[place : place + 4], order)
    new = rng.choice((old * 2, old // 2, old + 1, old - 1, old + 1000)) % (1 << 32)
    data[place : place + 4] = new.to_bytes(4, order)


def zero_range(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    """Replace a range by zeros, as a bad sector does."""
    place = _draw_place(rng, data)
    size = min(rng.randrange(1, 4096), len(data) - place)
    data[place : place + size] = bytes(size)


def write_noise(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    """Replace up to 64 bytes by random ones."""
    place = _draw_place(rng, data)
    size = min(rng.randrange(1, 64), len(data) - place)
    data[place : place + size] = rng.randbytes(size)


def remove_range(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    """Take out up to 300 bytes."""
    place = _draw_place(rng, data)
    del data[place : place + rng.randrange(1, 300)]


def repeat_range(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    """Put a part of the file in at another place."""
    place, start = _draw_place(rng, data), rng.randrange(len(data))
    data[place:place] = data[start : start + rng.randrange(1, 300)]


def splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Continue with the rest of a file of any container."""
    other = rng.choice(others)
    data[_draw_place(rng, data) :] = other[rng.randrange(len(other)) :]


def concatenate(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Put another file behind it, or in front of it."""
    other = rng.choice(others)
    data[:] = bytes(data) + other if rng.random() < 0.5 else other + bytes(data)


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, truncate, set_number, change_number, zero_range),
    *(write_noise, remove_range, repeat_range, splice, concatenate),
)


def _draw_place(rng: random.Random, data: bytearray) -> int:
    """Return a position, more often in the header than elsewhere."""
    return rng.randrange(min(len(data), rng.choice((64, HEADER_BYTES, len(data)))))


def mutate(seed: int, whole: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Return the name and the bytes of the damaged file of a seed."""
    rng = random.Random(seed)
    names = sorted(whole)
    name = names[seed % len(names)]
    data = bytearray(whole[name])
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(MUTATIONS)(rng, data, list(whole.values()))
        data = data or bytearray(1)
    stem, _, suffix = name.partition(".")
    return f"{seed:06}-{stem}.{suffix}", bytes(data)


@dataclass(slots=True)
class Figures:
    """What became of the files."""

    files: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)  # of jobs: "done", or a failure's kind
    violations: list[str] = field(default_factory=list)

    def add(
        self, name: str, results: Mapping[str, Result], read: Callable[[Result], bytes]
    ) -> None:
        """Count the results of a file's jobs, and check them."""
        self.files += 1
        for job in JOBS:
            problem = self._check(job, results.get(job), read)
            if problem is not None:
                self.violations.append(f"{name}: {job}: {problem}")

    def _check(
        self, job: str, result: Result | None, read: Callable[[Result], bytes]
    ) -> str | None:
        if result is None:
            return "no result"
        if result.state is State.NOT_APPLICABLE:
            self.outcomes[result.state] += 1
            return None
        if result.state is not State.DONE:
            kind = result.error.kind if result.error else "no error"
            self.outcomes[kind] += 1
            return None if kind in EXPECTED else f"{kind}: {result.error}"
        self.outcomes["done"] += 1
        try:
            codec.decode("audio/flac" if job == "downsample" else "application/json", read(result))
        except (SegueError, ValueError) as error:
            return f"its artifact cannot be read: {error}"
        return None

    def format(self, seconds: float) -> str:
        """Return one line."""
        hangs, dead = self.outcomes[Kind.TIMEOUT], self.outcomes[Kind.CRASHED]
        other = {
            k: v for k, v in sorted(self.outcomes.items()) if k not in (Kind.TIMEOUT, Kind.CRASHED)
        }
        return (
            f"{self.files:,} mutated media files in {seconds:,.0f} s: "
            f"{len(self.violations)} violations, {hangs} hangs, {dead} dead workers; jobs: "
            + ", ".join(f"{count:,} {kind}" for kind, count in other.items())
        )


def build_graph() -> Graph:
    """Return the jobs, with a deadline that fits short files."""
    graph = read_graph(str(GRAPH), {})
    jobs = {name: replace(graph.jobs[name], timeout_s=TIMEOUT_S) for name in BUILT_IN}
    for name in PICTURE_JOBS:
        jobs[name] = replace(jobs["probe"], name=name, run=f"segue_support.jobs:{name}")
    return replace(graph, jobs=jobs)


def run(seeds: Sequence[int], *, processes: int = 2, progress: bool = False) -> Figures:
    """Run the jobs on the damaged files of the seeds, in one pool of workers."""
    whole = read_seeds((*NAMES, *PICTURES))
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(folder)
        with trial.pool(build_graph(), processes=processes, warmup_s=60.0) as pool:
            for batch in _split(seeds, BATCH):
                files = {}
                for seed in batch:
                    name, data = mutate(seed, whole)
                    files[name] = trial.add(name, data)
                tasks = [
                    Task(task_id=number, media=media, run=JOBS)
                    for number, media in enumerate(files.values())
                ]
                for name, results in zip(files, run_tasks(pool, tasks), strict=True):
                    figures.add(name, results, trial.read)
                for name in files:
                    os.unlink(os.path.join(trial.catalogue, name))
                if progress:
                    print(f"{figures.files:,} of {len(seeds):,}", file=sys.stderr, flush=True)
    return figures


def _split(seeds: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    remaining = iter(seeds)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def main(argv: list[str] | None = None) -> int:
    """Run the files of a range of seeds; print one line, and return 1 if there is a violation."""
    parser = argparse.ArgumentParser(
        prog="python -m segue_support.mutated_media", description="Damage media files, run jobs."
    )
    parser.add_argument("--seeds", type=parse_seeds, default=range(60), metavar="FIRST:END")
    parser.add_argument("--processes", type=int, default=2, help="Workers to use.")
    arguments = parser.parse_args(argv)
    started_s = time.monotonic()
    figures = run(arguments.seeds, processes=arguments.processes, progress=True)
    for violation in figures.violations[:50]:
        print(violation[:400])
    print(figures.format(time.monotonic() - started_s))
    return int(bool(figures.violations))


if __name__ == "__main__":
    sys.exit(main())
