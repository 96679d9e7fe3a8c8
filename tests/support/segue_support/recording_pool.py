"""A crew without processes: it answers each task at once with what it was told to, and remembers
the tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segue.model.ledger import Result
from segue.model.record import State
from segue.worker.task import Report, Task


def all_done(task: Task) -> tuple[Result, ...]:
    """Every job of a task succeeds."""
    return tuple(
        Result(
            job=job,
            state=State.DONE,
            artifact=f"file:///artifacts/{job}/{task.media.name}/{task.media.generation}",
            checksum="sha256:0",
            seconds=0.001,
            cpu_seconds=0.001,
        )
        for job in task.run
    )


class RecordingCrew:
    """Stands in for the pool of child processes."""

    def __init__(
        self,
        answer: Callable[[Task], tuple[Result, ...]] = all_done,
        *,
        processes: int = 2,
    ) -> None:
        self.processes = processes
        self.tasks: list[Task] = []
        self._answer = answer
        self._waiting: list[Task] = []

    def submit(self, tasks: Sequence[Task]) -> None:
        """Remember tasks, to be answered when somebody collects."""
        self.tasks += tasks
        self._waiting += tasks

    def collect(self, timeout_s: float) -> list[Report]:
        """Answer all that waits."""
        reports = [
            Report(ticket=task.ticket, results=self._answer(task), finished=True)
            for task in self._waiting
        ]
        self._waiting = []
        return reports
