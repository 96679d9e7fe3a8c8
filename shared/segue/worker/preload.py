"""What is imported once, before children are forked, so that they share it.

A module of jobs says what its functions import when they run, and what to call to compile them, in
a tuple::

    PRELOAD = ("librosa", "my_jobs.rhythm:warm_up")
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from types import FrameType

from segue.model.graph import Graph

NAME = "PRELOAD"
PLAIN = ("application/json", "application/octet-stream")
FOLDER = "segue.adapters.folder"
CLOUD = "segue.adapters.cloud_storage"
_WATCH_S = 0.5


def preload(graph: Graph, artifacts: str, names: Collection[str], untouched: Sequence[str]) -> None:
    """Import all that some jobs of a graph name, except what is known to start threads.

    A process with threads must not fork. If an import has started one, this process begins anew
    without it, and the children import it themselves. What cannot be imported here, fails in a
    child, where it is told.
    """
    jobs = [job for job in graph.jobs.values() if job.name in names]
    places = (artifacts, graph.catalogue or "")
    wanted = [CLOUD if place.startswith("gs://") else FOLDER for place in places if place]
    wanted += ["segue.codec"] * any(job.writes not in PLAIN for job in jobs)
    wanted += ["segue.media.decode"] * any(job.reads_source for job in jobs)
    wanted += [job.run.partition(":")[0] for job in jobs]
    for name in dict.fromkeys(wanted):
        _touch(name, untouched)
        for further in named_by(name):
            _touch(further, untouched)


def named_by(module: str) -> tuple[str, ...]:
    """What a module that was imported names to be loaded with it."""
    named = getattr(sys.modules.get(module), NAME, ())
    return (named,) if isinstance(named, str) else tuple(named)


def load(name: str) -> None:
    """Import a module, or also call one of its functions; a failure is told, not raised."""
    module, _, function = name.partition(":")
    try:
        found = importlib.import_module(module)
        if function:
            getattr(found, function)()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything
        print(f"segue: {name} cannot be loaded ahead: {error!r}", file=sys.stderr)


def _touch(name: str, untouched: Sequence[str]) -> None:
    if name in untouched:
        return
    load(name)
    if _threads() > 1:
        print(f"segue: {name} starts threads; each child loads it for itself", file=sys.stderr)
        signal.setitimer(signal.ITIMER_REAL, 0.0)  # it would go on in the new program
        os.execv(sys.executable, [*sys.orig_argv, name])  # noqa: S606 - this very program


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:  # not Linux
        return threading.active_count()


@contextlib.contextmanager
def ending_with(parent: int) -> Iterator[None]:
    """Imports take long, and nobody listens meanwhile: end soon after the parent does."""

    def look(_number: int, _frame: FrameType | None) -> None:
        if os.getppid() != parent:
            os._exit(0)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _WATCH_S, _WATCH_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
