"""A worker pool without processes: returns prepared results at once, and records the tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segue.model.artifact import build_artifact_name
from segue.model.record import State
from segue.model.transitions import Result
from segue.worker.protocol import Report, Task

FINGERPRINT = "0" * 12


def complete_jobs(task: Task) -> tuple[Result, ...]:
    """Return a successful result for every job of a task."""
    name, version = task.media.name, task.media.version
    return tuple(
        Result(
            job=job,
            state=State.DONE,
            artifacts={
                build_artifact_name(job, FINGERPRINT, name, version, "json"): f"sha256:{job}"
            },
            seconds=0.001,
            cpu_seconds=0.001,
        )
        for job in task.run
    )


class RecordingPool:
    """Replaces the pool of child processes in tests."""

    def __init__(
        self,
        answer: Callable[[Task], tuple[Result, ...]] = complete_jobs,
        *,
        processes: int = 2,
        batch_files: int = 0,
    ) -> None:
        self.processes = processes
        self.batch_files = batch_files
        self.flushed: list[int] = []  # how many tasks there were at each flush
        self.tasks: list[Task] = []
        self.answer = answer
        self._waiting: list[Task] = []

    def submit(self, tasks: Sequence[Task]) -> None:
        """Record tasks; the next ``collect`` reports them."""
        self.tasks += tasks
        self._waiting += tasks

    def flush(self) -> None:
        """Record that no batch is to wait."""
        self.flushed.append(len(self.tasks))

    def collect(self, timeout_s: float) -> list[Report]:
        """Report all tasks that were submitted since the last call."""
        waiting, self._waiting = self._waiting, []
        return [
            Report(task_id=task.task_id, results=self.answer(task), finished=True)
            for task in waiting
        ]
