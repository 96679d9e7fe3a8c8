"""Imports modules before children are forked, so that they share the memory.

A module of jobs lists what its functions import when they run, and what to call to compile them, in
a tuple::

    PRELOAD = ("librosa", "my_jobs.rhythm:warm_up")
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import FrameType

from segue.model.graph import Graph
from segue.model.job_code import Batching, find_batching

NAME = "PRELOAD"
PLAIN = ("application/json", "application/octet-stream")
FOLDER = "segue.adapters.folder"
CLOUD = "segue.adapters.cloud_storage"
_WATCH_S = 0.5


def preload(graph: Graph, artifacts: str, names: Collection[str], excluded: Sequence[str]) -> None:
    """Import all modules that the named jobs of a graph need, except the excluded ones.

    A process with threads must not fork: if an import has started one, this process restarts itself
    with that module excluded, and children import it themselves. An import that fails here fails
    again in a child, which reports it.
    """
    jobs = [job for job in graph.jobs.values() if job.name in names]
    locations = (artifacts, graph.catalogue or "")
    wanted = [CLOUD if uri.startswith("gs://") else FOLDER for uri in locations if uri]
    types = {content_type for job in jobs for content_type in job.outputs.values()}
    wanted += ["segue.codec"] * (not types.issubset(PLAIN))
    wanted += ["segue.media.decode"] * any(job.reads_source for job in jobs)
    wanted += [job.run.partition(":")[0] for job in jobs]
    for name in dict.fromkeys(wanted):
        _preload_module(name, excluded)
        for further in find_preloads(name):
            _preload_module(further, excluded)


def find_preloads(module: str) -> tuple[str, ...]:
    """Return what an imported module lists in its ``PRELOAD``."""
    named = getattr(sys.modules.get(module), NAME, ())
    return (named,) if isinstance(named, str) else tuple(named)


def read_batching(
    graph: Graph, names: Collection[str], excluded: Sequence[str]
) -> dict[str, Batching]:
    """Return how the named jobs that take batches collect them, from the classes that are imported.

    Modules that are excluded here are imported in a process that exits at once.
    """
    runs = {name: job.run for name, job in graph.jobs.items() if name in names}
    found = {name: _read_class(run) for name, run in runs.items()}
    if apart := {n: run for n, run in runs.items() if run.partition(":")[0] in excluded}:
        found |= _read_apart(apart)
    return {name: batching for name, batching in found.items() if batching is not None}


def _read_class(run: str) -> Batching | None:
    module, _, name = run.partition(":")
    return find_batching(getattr(sys.modules.get(module), name, None))


def _read_apart(runs: Mapping[str, str]) -> dict[str, Batching | None]:
    """Read classes in a copy of this process, which imports their modules."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reader)
            for run in runs.values():
                load_ahead(run.partition(":")[0])
            found = {name: _read_class(run) for name, run in runs.items()}
            sizes = {name: [b.size, b.wait_s] for name, b in found.items() if b is not None}
            os.write(writer, json.dumps(sizes).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        data = file.read()
    os.waitpid(process, 0)
    read = json.loads(data or "{}")
    return {name: Batching(size=size, wait_s=wait_s) for name, (size, wait_s) in read.items()}


def load_ahead(name: str) -> None:
    """Import a module, and call its function if one is named; print a failure, do not raise it."""
    module, _, function = name.partition(":")
    try:
        loaded = importlib.import_module(module)
        if function:
            getattr(loaded, function)()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything
        print(f"segue: cannot preload {name}: {error!r}", file=sys.stderr)


def _preload_module(name: str, excluded: Sequence[str]) -> None:
    if name in excluded:
        return
    load_ahead(name)
    if _count_threads() > 1:
        print(
            f"segue: cannot preload {name}: it starts threads; each child imports it instead",
            file=sys.stderr,
        )
        signal.setitimer(signal.ITIMER_REAL, 0.0)  # the timer would survive exec
        os.execv(sys.executable, [*sys.orig_argv, name])  # noqa: S606 - this same program


def _count_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:  # not Linux
        return threading.active_count()


@contextlib.contextmanager
def watch_parent(parent: int) -> Iterator[None]:
    """Exit soon after the parent does, while the block imports and reads no channel."""

    def check_parent(_number: int, _frame: FrameType | None) -> None:
        if os.getppid() != parent:
            os._exit(0)

    signal.signal(signal.SIGALRM, check_parent)
    signal.setitimer(signal.ITIMER_REAL, _WATCH_S, _WATCH_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
