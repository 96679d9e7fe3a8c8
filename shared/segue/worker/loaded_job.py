"""Jobs that are imported and set up in this process, with all that is equal for every file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue.codec import find_extension
from segue.errors import ConfigurationError
from segue.model.graph import SOURCE
from segue.model.job_code import build
from segue.worker.failure import classify_error, is_retryable, shorten
from segue.worker.protocol import BatchJobLoaded
from segue.worker.retry import call_with_retry
from segue.worker.shared_state import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from segue.model.graph import Graph, Job
    from segue.worker.limits import MemoryLimit
    from segue.worker.parent_connection import ParentConnection
    from segue.worker.protocol import Order
    from segue.worker.shared_state import SharedState


class SetupFailed(Exception):
    """A job cannot be set up, or reports a wrong setup: no file can be processed."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(slots=True, kw_only=True)
class LoadedJob:
    """A job that is ready to be called in this process."""

    spec: Job
    name: str
    number: int  # in the graph
    fingerprint: str
    extension: str
    needs: tuple[tuple[str, str, str], ...]  # input, parent, the parent's content type
    parents: tuple[str, ...]
    reads_source: bool
    below: frozenset[str]
    memory_gib: float
    call: Callable[[Mapping[str, Any]], Any]
    batch: Callable[[Sequence[Mapping[str, Any]]], Any] | None
    batch_size: int
    cold: bool = True  # it has not been called yet


def load_job(graph: Graph, name: str) -> LoadedJob:
    """Import a job, construct it and run its setup; errors of its code propagate."""
    spec = graph.jobs[name]
    runner = build(spec)
    if runner.setup is not None:
        runner.setup()
    types = {SOURCE: "", **{p: graph.jobs[p].writes for p in spec.parents}}
    return LoadedJob(
        spec=spec,
        name=name,
        number=list(graph.jobs).index(name),
        fingerprint=graph.fingerprints[name],
        extension=find_extension(spec.writes),
        needs=tuple((name, parent, types[parent]) for name, parent in spec.needs.items()),
        parents=spec.parents,
        reads_source=spec.reads_source,
        below=graph.find_descendants(name),
        memory_gib=spec.resources.memory_gib,
        call=runner.call,
        batch=runner.batch,
        batch_size=runner.batch_size,
    )


class LoadedJobs:
    """The jobs of a process, each loaded when the first order needs it."""

    def __init__(
        self,
        graph: Graph,
        shared_state: SharedState,
        connection: ParentConnection,
        memory: MemoryLimit,
    ) -> None:
        self._graph = graph
        self._shared_state = shared_state
        self._connection = connection
        self._memory = memory
        self._jobs: dict[str, LoadedJob] = {}
        self._lines: dict[tuple[str, ...], tuple[LoadedJob, ...]] = {}

    def load_all(self, order: Order) -> tuple[LoadedJob, ...]:
        """Return the jobs of an order; load those that are not loaded yet."""
        line = self._lines.get(order.run)
        if line is None:
            self._shared_state.take(order.serial)  # a crash while loading belongs to this order
            for name in order.run:
                if name not in self._jobs:
                    self._jobs[name] = self._load(order, name)
            line = self._lines[order.run] = tuple(self._jobs[name] for name in order.run)
        return line

    def sort_by_level(self, names: set[str]) -> list[LoadedJob]:
        """Return loaded jobs by name, parents first."""
        return [self._jobs[name] for name in self._graph.jobs if name in names]

    def _load(self, order: Order, name: str) -> LoadedJob:
        number = list(self._graph.jobs).index(name)
        self._shared_state.set_progress(order.serial, number, Phase.SETUP, time.monotonic())
        self._memory.clear_limit()
        try:
            job = call_with_retry(
                lambda: load_job(self._graph, name), attempts=self._graph.jobs[name].attempts
            )
        except (Exception, SystemExit) as error:  # a job's code may raise anything
            cause = error if isinstance(error, ConfigurationError) else classify_error(error, 0.0)
            message = f"job {name!r} cannot start: {shorten(str(cause))}"
            raise SetupFailed(message, transient=is_retryable(error)) from error
        self._memory.reset_baseline()
        if job.batch is not None:
            self._connection.send(BatchJobLoaded(name, job.batch_size))
        return job
