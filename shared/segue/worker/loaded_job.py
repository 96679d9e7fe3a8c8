"""The jobs, ready in this process: their code, loaded once, and what no file changes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue.codec import extension
from segue.errors import ConfigurationError
from segue.model.graph import SOURCE
from segue.model.job_code import build
from segue.worker.failure import short, understood, worth_retrying
from segue.worker.protocol import Built
from segue.worker.retry import patiently
from segue.worker.shared_state import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from segue.model.graph import Graph, Job
    from segue.worker.limits import Memory
    from segue.worker.parent_connection import Uplink
    from segue.worker.protocol import Order
    from segue.worker.shared_state import Cell


class Hopeless(Exception):
    """No file can be worked on; the parent is told, and stops."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(slots=True, kw_only=True)
class Step:
    """What a process keeps of a job."""

    job: Job
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
    cold: bool = True  # nothing has been called yet


def load_step(graph: Graph, name: str) -> Step:
    """Import a job, construct it and set it up; what its code raises is passed on."""
    job = graph.jobs[name]
    runner = build(job)
    if runner.setup is not None:
        runner.setup()
    types = {SOURCE: "", **{p: graph.jobs[p].writes for p in job.parents}}
    return Step(
        job=job,
        name=name,
        number=list(graph.jobs).index(name),
        fingerprint=graph.fingerprints[name],
        extension=extension(job.writes),
        needs=tuple((name, parent, types[parent]) for name, parent in job.needs.items()),
        parents=job.parents,
        reads_source=job.reads_source,
        below=graph.descendants(name),
        memory_gib=job.resources.memory_gib,
        call=runner.call,
        batch=runner.batch,
        batch_size=runner.batch_size,
    )


class Steps:
    """The jobs of a process, each loaded when the first order wants it."""

    def __init__(self, graph: Graph, cell: Cell, uplink: Uplink, memory: Memory) -> None:
        self._graph = graph
        self._cell = cell
        self._uplink = uplink
        self._memory = memory
        self._steps: dict[str, Step] = {}
        self._lines: dict[tuple[str, ...], tuple[Step, ...]] = {}

    def of(self, order: Order) -> tuple[Step, ...]:
        """The steps of an order."""
        line = self._lines.get(order.run)
        if line is None:
            self._cell.take(order.serial)  # what goes wrong in loading is about this order
            for name in order.run:
                if name not in self._steps:
                    self._steps[name] = self._load(order, name)
            line = self._lines[order.run] = tuple(self._steps[name] for name in order.run)
        return line

    def level_by_level(self, names: set[str]) -> list[Step]:
        """Steps that are loaded, parents first."""
        return [self._steps[name] for name in self._graph.jobs if name in names]

    def _load(self, order: Order, name: str) -> Step:
        number = list(self._graph.jobs).index(name)
        self._cell.enter(order.serial, number, Phase.SETUP, time.monotonic())
        self._memory.unbound()
        try:
            step = patiently(
                lambda: load_step(self._graph, name), attempts=self._graph.jobs[name].attempts
            )
        except (Exception, SystemExit) as error:  # a job's code may raise anything
            said = error if isinstance(error, ConfigurationError) else understood(error, 0.0)
            message = f"job {name!r} cannot start: {short(str(said))}"
            raise Hopeless(message, transient=worth_retrying(error)) from error
        self._memory.settle()
        if step.batch is not None:
            self._uplink.tell(Built(name, step.batch_size))
        return step
