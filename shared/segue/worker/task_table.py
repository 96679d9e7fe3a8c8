"""The unfinished tasks of a pool: their results so far, the queue, and unsent reports."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from segue.model.outcome import build_blocked_result
from segue.model.record import Failure, State
from segue.model.transitions import Result
from segue.worker.task import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from segue.model.graph import Graph
    from segue.worker.task import Task


class TaskEntry:
    """A task that is not finished."""

    __slots__ = (
        "alone",
        "crashes",
        "inputs",
        "is_representative",
        "results",
        "run",
        "seconds",
        "task",
    )

    def __init__(self, task: Task) -> None:
        self.task = task
        self.run = task.run  # the jobs to run when it is next sent to a child
        self.inputs: Mapping[str, str] = task.inputs
        self.results: dict[str, Result] = {}
        self.seconds = 0.0
        self.is_representative = True  # its duration is used for estimates
        self.alone = False  # not to be batched with other files
        self.crashes = 0  # of children that held it, since its last result

    @property
    def finished(self) -> bool:
        """Whether each of its jobs has a result."""
        return len(self.results) == len(self.task.run)


class TaskTable:
    """All submitted tasks that are not finished."""

    def __init__(self, graph: Graph) -> None:
        self.queue: deque[TaskEntry] = deque()
        self.pending = 0
        self._graph = graph
        self._unreported: dict[int, tuple[TaskEntry, list[Result]]] = {}

    def add(self, tasks: Iterable[Task]) -> None:
        """Add tasks to the queue."""
        before = len(self.queue)
        self.queue.extend(map(TaskEntry, tasks))
        self.pending += len(self.queue) - before

    def record(self, entry: TaskEntry, result: Result) -> bool:
        """Record a result; return whether it was the task's last."""
        entry.results[result.job] = result
        entry.crashes = 0
        unreported = self._unreported.get(entry.task.task_id)
        if unreported is None:
            unreported = self._unreported[entry.task.task_id] = (entry, [])
        unreported[1].append(result)
        if entry.finished:
            self.pending -= 1
            return True
        return False

    def fail(
        self, entry: TaskEntry, job: str, failure: Failure, *, seconds: float | None = None
    ) -> None:
        """Record that a job failed, and that the jobs below it are blocked."""
        self.record(entry, Result(job=job, state=State.FAILED, error=failure, seconds=seconds))
        for name in entry.task.run:
            if name not in entry.results and name in self._graph.find_descendants(job):
                self.record(entry, build_blocked_result(name, job))

    def put_back(self, entries: Iterable[TaskEntry]) -> None:
        """Put unfinished tasks back at the front of the queue, with their remaining jobs."""
        left = [entry for entry in entries if not entry.finished]
        for entry in left:
            entry.is_representative = False
            if entry.results:
                done = {j: r.artifact for j, r in entry.results.items() if r.artifact is not None}
                entry.inputs = {**entry.task.inputs, **done}
                entry.run = tuple(j for j in entry.task.run if j not in entry.results)
        self.queue.extendleft(reversed(left))

    def take_reports(self) -> list[Report]:
        """Return the results that have not been reported yet."""
        unreported, self._unreported = self._unreported, {}
        return [
            Report(task_id=task_id, results=tuple(results), finished=entry.finished)
            for task_id, (entry, results) in unreported.items()
        ]

    @property
    def has_reports(self) -> bool:
        """Whether there are results to report."""
        return bool(self._unreported)
