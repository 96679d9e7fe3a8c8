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
from collections.abc import Iterator, Sequence
from types import FrameType

from shared.graph import Graph

NAME = "PRELOAD"
PLAIN = ("application/json", "application/octet-stream")
FOLDER = "shared.adapters.folder"
CLOUD = "shared.adapters.cloud_storage"
_WATCH_S = 0.5


def preload(graph: Graph, artifacts: str, untouched: Sequence[str]) -> None:
    """Import all that the jobs of a graph name, except what is known to start threads.

    A process with threads must not fork. If an import has started one, this process begins anew
    without it, and the children import it themselves. What cannot be imported here, fails in a
    child, where it is told.
    """
    jobs = graph.jobs.values()
    places = (artifacts, graph.catalogue or "")
    wanted = [CLOUD if place.startswith("gs://") else FOLDER for place in places if place]
    wanted += ["shared.codec"] * any(job.writes not in PLAIN for job in jobs)
    wanted += ["shared.decode"] * any(job.reads_source for job in jobs)
    wanted += [job.run.partition(":")[0] for job in jobs]
    for name in dict.fromkeys(wanted):
        _touch(name, untouched)
        named = getattr(sys.modules.get(name), NAME, ())
        for further in (named,) if isinstance(named, str) else named:
            _touch(further, untouched)


def _touch(name: str, untouched: Sequence[str]) -> None:
    if name in untouched:
        return
    module, _, function = name.partition(":")
    try:
        found = importlib.import_module(module)
        if function:
            getattr(found, function)()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything
        print(f"segue: {name} cannot be loaded ahead: {error!r}", file=sys.stderr)
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
