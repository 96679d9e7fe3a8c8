"""One streaming run: which pipelines, on which stack, and what it uses in a process."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from segue.adapters.connect import (
    connect_ledger,
    connect_queue,
    connect_store,
)
from segue.adapters.urls import make_url_absolute
from segue.errors import ConfigurationError, suggest
from segue.execution.engine import Engine, WorkerPool
from segue.execution.foreign import ForeignLedgers, open_foreign_ledgers
from segue.execution.reply import Reply
from segue.execution.stream_worker import StreamWorker
from segue.log import Action, log_event
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Ledger
from segue.model.object_store import ObjectStore
from segue.model.queue import list_subscriptions
from segue.model.record import Lease
from segue.worker.pool import Pool
from segue.worker.running_job import list_running_folders
from segue.worker.shared_pool import SharedPool

WARNINGS = {Action.FAILED, Action.DEAD_LETTERED, Action.DEFERRED, Action.LOST}
# Of work that is claimed before it starts, in a process that shares the messages with others.
AHEAD_S = 0.5
MAX_AHEAD = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingRun:
    """One streaming process: which pipelines, on which stack."""

    graph: Graph
    pipelines: tuple[str, ...]  # whose messages it reads, and whose jobs it runs
    ledger: str  # URL
    artifacts: str  # location
    queue: str  # URL
    processes: int | None = None  # child processes per worker; None: one per core
    requires_gpus: bool = False  # a job that needs a GPU does not run on a worker without one
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
            queue=make_url_absolute(self.run.queue),
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
            run.graph,
            run.artifacts,
            ledger=run.ledger,
            processes=run.processes,
            jobs=run.jobs,
            requires_gpus=run.requires_gpus,
            show_in=list_running_folders(run.ledger),
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


def open_stream_worker(run: StreamingRun, stack: contextlib.ExitStack) -> StreamWorker:
    """Open a worker on the queue, with all that it uses; the stack closes it."""
    queue = connect_queue(run.queue, run.graph)
    stack.callback(queue.close)
    resources = open_resources(run, stack)
    worker = StreamWorker(
        queue=queue,
        ledger=resources.ledger,
        engine=resources.build_engine(resources.pool.build_client()),
        subscriptions=[s.name for s in list_subscriptions(run.graph, run.pipelines)],
        until_idle_s=run.until_idle_s,
        on_start=resources.log_start,
        is_loading=lambda: resources.pool.is_loading,
    )
    stack.callback(worker.close)
    return worker


def log_reply(reply: Reply) -> None:
    """Log what became of a message."""
    for action, fields in reply.list_log_lines():
        severity = "WARNING" if action in WARNINGS else "INFO"
        log_event(action, severity=severity, **fields)
