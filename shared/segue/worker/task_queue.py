"""The queues of a pool: one for each job that takes batches or has a GPU, and one for all others.

A line is cut where such a job begins and ends: a task waits in the plain queue for the jobs before
it, then in the job's own queue, and then in the plain queue again.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segue.model.job_code import Batching
    from segue.model.transitions import Result
    from segue.worker.protocol import Task

MESSAGE_S = 0.05  # of work in one message to a child, as far as it can be estimated
MAX_MESSAGE = 250
WEIGHT = 0.05  # of a task's duration in the mean
# A task that takes longer than this, and than so many times the mean, is late.
LATE_S = 0.2
LATE_TIMES = 4.0


class TaskEntry:
    """A task that is not finished."""

    __slots__ = (
        *("added_s", "alone", "exclusive", "here", "late_at_s", "queued_s", "results"),
        *("seconds", "task"),
    )

    def __init__(self, task: Task, added_s: float = 0.0) -> None:
        self.task = task
        self.results: dict[str, Result] = {}
        self.here: tuple[str, ...] = ()  # the jobs to run next; empty: all that are left
        self.seconds = 0.0  # that these took
        self.added_s = self.queued_s = added_s  # when it came to the pool, and to its queue
        self.late_at_s = math.inf  # from then on nobody waits for the child that has it
        self.alone = False  # not to be sent with other tasks: such a batch has crashed
        self.exclusive = False  # nothing else may run meanwhile: that may have made it fail

    @property
    def finished(self) -> bool:
        """Whether each of its jobs has a result."""
        return len(self.results) == len(self.task.run)

    @property
    def is_stage_over(self) -> bool:
        """Whether each of the jobs that it was sent for has a result."""
        if not self.here:
            return self.finished
        return all(job in self.results for job in self.here)

    def list_left(self) -> tuple[str, ...]:
        """Return the jobs without a result."""
        if not self.results:
            return self.task.run
        return tuple(job for job in self.task.run if job not in self.results)


class TaskQueue:
    """Tasks that wait for a child.

    A batch that is not full waits for the tasks that come to the pool until ``wait_s`` after its
    first one was queued, and then until these are here, unless they are late.
    """

    def __init__(
        self, job: str | None = None, batching: Batching | None = None, *, children: int = 0
    ) -> None:
        self.job = job  # None: it has all tasks that need no queue of their own
        self.children = children  # that run this job alone, each on a GPU; 0: ordinary ones do
        self.entries: deque[TaskEntry] = deque()
        self.coming: dict[TaskEntry, None] = {}  # that have yet to run other jobs first
        self.mean_s: float | None = None  # of a task
        self.is_last = False  # no more tasks come to the pool
        self._batching = batching

    @property
    def is_for_batches(self) -> bool:
        """Whether its job takes many files at once."""
        return self._batching is not None

    @property
    def batch_size(self) -> int:
        """How many files a batch may have."""
        return self._batching.size if self._batching is not None else 1

    def _find_limit_s(self, now_s: float) -> float:
        assert self._batching is not None
        return now_s if self.is_last else self.entries[0].queued_s + self._batching.wait_s

    def is_due(self, now_s: float) -> bool:
        """Whether the next message may be sent now."""
        if not self.entries:
            return False
        if self._batching is None or self.entries[0].alone or self._is_full:
            return True
        limit_s = self._find_limit_s(now_s)
        return now_s >= limit_s and not any(
            entry.added_s <= limit_s and now_s < entry.late_at_s for entry in self.coming
        )

    @property
    def _is_full(self) -> bool:
        return len(self.entries) >= self.batch_size

    def find_due_s(self, now_s: float) -> float:
        """Return when a batch has waited long enough; infinity if no time has to pass for it."""
        if not self.entries or self._batching is None:
            return math.inf
        limit_s = self._find_limit_s(now_s)
        return limit_s if limit_s > now_s else math.inf

    def take(self, processes: int) -> list[TaskEntry]:
        """Take the tasks of the next message: one batch, or ``MESSAGE_S`` of work, but not more
        than the fair share of one of so many children.
        """
        size = self._choose_size(self.children or processes)
        taken: list[TaskEntry] = []
        while self.entries and len(taken) < size and not (taken and self.entries[0].alone):
            taken.append(self.entries.popleft())
            if taken[-1].alone:
                break
        return taken

    def _choose_size(self, children: int) -> int:
        if self._batching is not None:
            return self._batching.size
        size = 1
        if self.mean_s is not None:
            size = max(size, min(MAX_MESSAGE, int(MESSAGE_S / max(self.mean_s, 1e-6))))
        return min(size, -(-len(self.entries) // (2 * children)))

    def find_late_at_s(self, since_s: float, tasks: int = 1) -> float:
        """Return from when on so many tasks that began then are late."""
        return since_s + max(LATE_S, LATE_TIMES * (self.mean_s or 0.0) * tasks)

    def add_duration(self, seconds: float) -> None:
        """Add the duration of a task to the mean."""
        mean_s = seconds if self.mean_s is None else self.mean_s
        self.mean_s = mean_s + WEIGHT * (seconds - mean_s)
