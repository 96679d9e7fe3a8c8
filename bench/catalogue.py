"""Catalogues and graphs for benchmarks."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def memory_folder() -> Iterator[str]:
    """A temporary folder in memory, where there is one.

    What a disk takes for a new folder and a new file varies tenfold with its state, and is no cost
    of the framework.
    """
    shared = "/dev/shm"
    place = shared if os.path.isdir(shared) and os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield folder


def empty_files(folder: str, count: int) -> None:
    """Make files of one byte, 1,000 a folder."""
    for i in range(count):
        if i % 1000 == 0:
            os.makedirs(f"{folder}/{i // 1000:04}", exist_ok=True)
        with open(f"{folder}/{i // 1000:04}/{i:07}.wav", "wb") as file:
            file.write(b"x")


def noop_graph(folder: str, jobs: int) -> str:
    """Write a graph of jobs in a row that do nothing; returns its path."""
    return _row(folder, jobs, "first", "next_")


def noted_graph(folder: str, jobs: int) -> str:
    """Write a graph of jobs in a row that write down that they ran; returns its path."""
    return _row(folder, jobs, "noted_first", "noted_next")


def _row(folder: str, jobs: int, first: str, next_: str) -> str:
    lines = ["jobs:"]
    for i in range(1, jobs + 1):
        needs, run = (f"above: j{i - 1}", next_) if i > 1 else ("media: source", first)
        lines.append(
            f'  j{i}: {{run: "bench.jobs:{run}", needs: {{{needs}}}, writes: application/json}}'
        )
    path = f"{folder}/jobs.yaml"
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")
    return path
