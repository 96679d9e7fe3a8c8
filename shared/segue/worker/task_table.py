"""The tasks under way: what is left of each, what waits for a child, what is to be told."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from segue.model.ledger import Result
from segue.model.outcome import blocked
from segue.model.record import Failure, State
from segue.worker.task import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from segue.model.graph import Graph
    from segue.worker.task import Task


class Item:
    """A task on its way."""

    __slots__ = ("alone", "deaths", "inputs", "learnt", "results", "run", "seconds", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.run = task.run  # what is left when it is next given to a child
        self.inputs: Mapping[str, str] = task.inputs
        self.results: dict[str, Result] = {}
        self.seconds = 0.0
        self.learnt = True  # whether its time says anything about other tasks
        self.alone = False  # in no batch with others
        self.deaths = 0  # of children that were near it

    @property
    def finished(self) -> bool:
        """Whether there is a result for each of its jobs."""
        return len(self.results) == len(self.task.run)


class Docket:
    """All tasks that were submitted and are not finished."""

    def __init__(self, graph: Graph) -> None:
        self.queue: deque[Item] = deque()
        self.pending = 0
        self._graph = graph
        self._told: dict[int, tuple[Item, list[Result]]] = {}

    def add(self, tasks: Iterable[Task]) -> None:
        """Take over tasks."""
        before = len(self.queue)
        self.queue.extend(map(Item, tasks))
        self.pending += len(self.queue) - before

    def record(self, item: Item, result: Result) -> bool:
        """Take note of a result; answers whether it was the task's last."""
        item.results[result.job] = result
        item.deaths = 0
        told = self._told.get(item.task.ticket)
        if told is None:
            told = self._told[item.task.ticket] = (item, [])
        told[1].append(result)
        if item.finished:
            self.pending -= 1
            return True
        return False

    def fail(self, item: Item, job: str, failure: Failure, *, seconds: float | None = None) -> None:
        """Take note that a job failed, and that the jobs below it are blocked."""
        self.record(item, Result(job=job, state=State.FAILED, error=failure, seconds=seconds))
        for name in item.task.run:
            if name not in item.results and name in self._graph.descendants(job):
                self.record(item, blocked(name, job))

    def give_back(self, items: Iterable[Item]) -> None:
        """Put tasks, with what is left of them, before all others."""
        left = [item for item in items if not item.finished]
        for item in left:
            item.learnt = False
            if item.results:
                done = {j: r.artifact for j, r in item.results.items() if r.artifact is not None}
                item.inputs = {**item.task.inputs, **done}
                item.run = tuple(j for j in item.task.run if j not in item.results)
        self.queue.extendleft(reversed(left))

    def reports(self) -> list[Report]:
        """Return what has not been told yet."""
        told, self._told = self._told, {}
        return [
            Report(ticket=ticket, results=tuple(results), finished=item.finished)
            for ticket, (item, results) in told.items()
        ]

    @property
    def news(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._told)
