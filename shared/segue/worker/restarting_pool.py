"""A pool that survives outages: if a service that a job's setup needs is unavailable, the pool is
started again later with the unfinished tasks.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from segue.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from segue.worker.pool import Pool
    from segue.worker.task import Report, Task


class RestartingPool:
    """A worker pool for tasks of one job each, which replaces its ``Pool`` after an outage."""

    def __init__(self, open_pool: Callable[[], Pool]) -> None:
        self._open = open_pool
        self._tasks: dict[int, Task] = {}
        self._pool: Pool | None = open_pool()
        self.processes = self._pool.processes

    @property
    def pending(self) -> int:
        """The number of tasks that are not finished."""
        return len(self._tasks)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Accept tasks."""
        self._tasks.update((task.task_id, task) for task in tasks)
        if self._pool is not None:
            self._pool.submit(tasks)

    def collect(self, timeout_s: float) -> list[Report]:
        """Return new reports.

        Raises
        ------
        ConfigurationError
            If a job cannot be started.
        Unavailable
            If a service that a job needs is unavailable; the next call tries again.
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
                self._tasks.pop(report.task_id, None)
        return reports

    def close(self) -> None:
        """Stop the child processes; kill them if tasks are unfinished."""
        if self._pool is not None:
            if self._tasks:
                self._pool.kill()
            else:
                self._pool.close()
            self._pool = None
