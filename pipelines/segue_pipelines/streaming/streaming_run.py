"""One streaming run: what it is to do, what its steps share in a process, and what it reports.

Beam copies the steps to wherever they run. They carry the run with them, and look up what they
share by its name.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from apache_beam.metrics import Metrics

from segue.adapters.connect import connect_ledger, connect_store
from segue.errors import ConfigurationError, suggest
from segue.execution.engine import Engine, WorkerPool
from segue.execution.foreign import ForeignLedgers, open_foreign_ledgers
from segue.execution.reply import Reply
from segue.log import Action, log_event
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Ledger
from segue.model.object_store import ObjectStore
from segue.model.record import Lease
from segue.worker.pool import Pool
from segue_pipelines.streaming.pools import SharedPool

NAMESPACE = "segue"
WARNINGS = {Action.FAILED, Action.DEAD_LETTERED, Action.DEFERRED, Action.LOST}
# Of work that is claimed before it starts, in a process that shares the messages with others.
AHEAD_S = 0.5
MAX_AHEAD = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingRun:
    """One streaming process: which pipelines, on which stack."""

    graph: Graph
    pipelines: tuple[str, ...]  # whose messages it reads, and whose jobs it runs
    ledger: str  # URL
    artifacts: str  # location
    queue: str  # URL
    processes: int | None = None  # child processes per worker; None: one per core
    until_idle_s: float | None = None  # end after so long without a message
    name: str = field(default_factory=lambda: secrets.token_hex(8))  # of this run

    def __post_init__(self) -> None:
        known = self.graph.pipelines
        if not self.pipelines:
            names = ", ".join(known)
            raise ConfigurationError(
                f"no pipeline is named; name some of {names} with --pipeline, or use --all"
            )
        if unknown := [name for name in self.pipelines if name not in known]:
            hint = suggest(unknown[0], list(known))
            raise ConfigurationError(f"{unknown[0]!r} is not a pipeline of this graph; {hint}")

    @property
    def jobs(self) -> frozenset[str]:
        """The jobs of its pipelines."""
        return frozenset(job for name in self.pipelines for job in self.graph.pipelines[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedResources:
    """The connections and child processes that a run uses in one process."""

    run: StreamingRun
    ledger: Ledger
    artifacts: ObjectStore
    pool: SharedPool
    foreign: ForeignLedgers | None = None  # None: the graph depends on no other namespace

    def build_engine(self, pool: WorkerPool, lost: Callable[[Lease], bool] = is_lost) -> Engine:
        """Return an engine for the jobs of the run."""
        return Engine(
            graph=self.run.graph,
            ledger=self.ledger,
            pool=pool,
            artifacts=self.artifacts,
            foreign=self.foreign,
            served=self.run.jobs,
            lost=lost,
            ahead_s=AHEAD_S,
            max_ahead=MAX_AHEAD,
        )

    def log_start(self) -> None:
        """Log that the run has started in this process."""
        log_event(
            Action.STARTED,
            pipelines=" ".join(self.run.pipelines),
            queue=self.run.queue,
            processes=self.pool.processes,
        )


def open_resources(run: StreamingRun, stack: contextlib.ExitStack) -> SharedResources:
    """Open what a run uses in one process; the stack closes it."""
    ledger = connect_ledger(run.ledger, run.graph.namespace)
    stack.callback(ledger.close)
    artifacts = connect_store(run.artifacts)
    stack.callback(artifacts.close)
    pool = SharedPool(
        lambda: Pool(
            run.graph, run.artifacts, ledger=run.ledger, processes=run.processes, jobs=run.jobs
        )
    )
    stack.callback(pool.close)
    return SharedResources(
        run=run,
        ledger=ledger,
        artifacts=artifacts,
        foreign=open_foreign_ledgers(run.graph, stack),
        pool=pool,
    )


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


def report(reply: Reply) -> None:
    """Log a reply, and add it to the metrics of the calling step."""
    for action, fields in reply.list_log_lines():
        severity = "WARNING" if action in WARNINGS else "INFO"
        log_event(action, severity=severity, **fields)
        place = f"job.{fields['job']}" if "job" in fields else f"pipeline.{fields['pipeline']}"
        _count(f"{place}.{action}")
    for result in reply.results:
        if result.error is not None:
            _count(f"failure.{result.job}.{result.error.kind}")
        if result.cpu_seconds is not None:
            _count(f"cpu_us.{result.job}", round(result.cpu_seconds * 1e6))
        if result.seconds is not None:
            run_ms = Metrics.distribution(NAMESPACE, f"run_ms.{result.job}")
            run_ms.update(round(result.seconds * 1e3))


def _count(name: str, n: int = 1) -> None:
    Metrics.counter(NAMESPACE, name).inc(n)
