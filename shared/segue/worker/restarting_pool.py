"""A pool that outlives outages: when something that its jobs load at their start stays away, it is
put up anew later, with the tasks that were under way.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from segue.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from segue.worker.pool import Pool
    from segue.worker.task import Report, Task


class LastingPool:
    """A crew for tasks of one job each, on one pool after the other."""

    def __init__(self, opened: Callable[[], Pool]) -> None:
        self._open = opened
        self._tasks: dict[int, Task] = {}
        self._pool: Pool | None = opened()
        self.processes = self._pool.processes

    @property
    def pending(self) -> int:
        """How many tasks are under way."""
        return len(self._tasks)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take over tasks."""
        self._tasks.update((task.ticket, task) for task in tasks)
        if self._pool is not None:
            self._pool.submit(tasks)

    def collect(self, timeout_s: float) -> list[Report]:
        """Return what has become of tasks.

        Raises
        ------
        ConfigurationError
            If a job cannot be started.
        Unavailable
            If what a job needs stays away; the next call tries again.
        """
        if self._pool is None:
            self._pool = self._open()
            self._pool.submit(list(self._tasks.values()))
        try:
            reports = self._pool.collect(timeout_s)
        except Unavailable:
            with contextlib.ExitStack() as stack:
                stack.callback(self._pool.kill)
                self._pool = None
            raise
        for report in reports:
            if report.finished:
                self._tasks.pop(report.ticket, None)
        return reports

    def close(self) -> None:
        """End the child processes: gently, if they have nothing to do."""
        if self._pool is not None:
            if self._tasks:
                self._pool.kill()
            else:
                self._pool.close()
            self._pool = None
