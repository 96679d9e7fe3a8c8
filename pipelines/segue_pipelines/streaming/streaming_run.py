"""One streaming run: what it is to do, what its steps share in a process, and what it reports.

Beam copies the steps to wherever they run. They carry the run with them, and look up what they
share by its name.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from apache_beam.metrics import Metrics

from segue.errors import ConfigurationError
from segue.execution.reply import Reply
from segue.log import Action, log_event
from segue.model.graph import Graph

NAMESPACE = "segue"
WARNINGS = {Action.FAILED, Action.DEAD_LETTERED, Action.DEFERRED, Action.LOST}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingRun:
    """One pipeline: which jobs, on which stack."""

    graph: Graph
    jobs: tuple[str, ...]  # that are served
    ledger: str  # URL
    artifacts: str  # location
    queue: str  # URL
    processes: int | None = None  # child processes per worker; None: one per core
    until_idle_s: float | None = None  # end after so long without a message
    name: str = field(default_factory=lambda: secrets.token_hex(8))  # of this run

    def __post_init__(self) -> None:
        unknown = [job for job in self.jobs if job not in self.graph.jobs]
        if unknown or not self.jobs:
            known = ", ".join(self.graph.jobs)
            what = f"{unknown[0]!r} is not a job of the graph" if unknown else "no job is named"
            raise ConfigurationError(f"{what}; name some of {known} with --job, or all with --all")


class ProcessCache(Generic[T]):
    """One object per run in this process, opened by the first step that needs it."""

    def __init__(self, open_: Callable[[StreamingRun, contextlib.ExitStack], T]) -> None:
        self._open = open_
        self._entries: dict[str, tuple[T, contextlib.ExitStack]] = {}
        self._lock = threading.Lock()

    def get_or_open(self, run: StreamingRun) -> T:
        """Return the run's object, and open it if this process has none yet."""
        with self._lock:
            if run.name not in self._entries:
                with contextlib.ExitStack() as stack:
                    self._entries[run.name] = self._open(run, stack), stack.pop_all()
            return self._entries[run.name][0]

    def find(self, name: str) -> T | None:
        """Return a run's object, or None; safe in a signal handler."""
        entry = self._entries.get(name)
        return None if entry is None else entry[0]

    def close(self, name: str) -> None:
        """Close a run's object, if there is one."""
        with self._lock:
            entry = self._entries.pop(name, None)
        if entry is not None:
            entry[1].close()


def report_replies(replies: Iterable[Reply]) -> None:
    """Log one line per reply, and add it to the metrics of the calling step."""
    for reply in replies:
        severity = "WARNING" if reply.action in WARNINGS else "INFO"
        log_event(reply.action, severity=severity, **reply.to_log_fields())
        _count(f"job.{reply.job}.{reply.action}")
        result = reply.result
        if result is None:
            continue
        if result.error is not None:
            _count(f"failure.{reply.job}.{result.error.kind}")
        if result.cpu_seconds is not None:
            _count(f"cpu_us.{reply.job}", round(result.cpu_seconds * 1e6))
        if result.seconds is not None:
            run_ms = Metrics.distribution(NAMESPACE, f"run_ms.{reply.job}")
            run_ms.update(round(result.seconds * 1e3))


def _count(name: str, n: int = 1) -> None:
    Metrics.counter(NAMESPACE, name).inc(n)
