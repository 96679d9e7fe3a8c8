"""Catalogues, graphs and jobs that do nothing, to measure only the framework."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def create_memory_folder() -> Iterator[str]:
    """Create a temporary folder, in memory if possible.

    The time that a disk takes to create a folder or a file varies tenfold with its state, and is
    not a cost of the framework.
    """
    shared = "/dev/shm"
    parent = shared if os.path.isdir(shared) and os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield folder


def write_empty_files(folder: str, count: int) -> None:
    """Write files of one byte, 1,000 per folder."""
    for i in range(count):
        if i % 1000 == 0:
            os.makedirs(f"{folder}/{i // 1000:04}", exist_ok=True)
        with open(f"{folder}/{i // 1000:04}/{i:07}.wav", "wb") as file:
            file.write(b"x")


def write_noop_graph(folder: str, jobs: int) -> str:
    """Write a graph of chained jobs that do nothing, and return its path."""
    lines = ["jobs:"]
    for i in range(1, jobs + 1):
        needs, run = (f"above: j{i - 1}", "do_next") if i > 1 else ("media: source", "do_first")
        run = f"bench.catalogue:{run}"
        lines.append(f'  j{i}: {{run: "{run}", needs: {{{needs}}}, writes: application/json}}')
    path = f"{folder}/jobs.yaml"
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")
    return path


def do_first(media: object) -> dict[str, bool]:  # noqa: ARG001
    """Take a file and do nothing with it."""
    return {"ok": True}


def do_next(above: object) -> dict[str, bool]:  # noqa: ARG001
    """Take a parent's result and do nothing with it."""
    return {"ok": True}
