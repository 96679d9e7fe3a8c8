"""Worker pools for streaming: one that survives outages, and one that many threads share."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from segue.errors import ConfigurationError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from segue.worker.pool import Pool
    from segue.worker.protocol import Report, Task

# How long a thread waits at a time while another one uses the pool, and how long that one waits.
POLL_S = 0.005


class RestartingPool:
    """A worker pool for tasks of one job each, which replaces its ``Pool`` after an outage.

    If a service that a job's setup needs is unavailable, or no space is left for temporary files,
    the pool is started again later with the unfinished tasks.
    """

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
        Unavailable, DiskFull
            If a service that a job needs is unavailable, or no space is left for temporary files;
            the next call tries again.
        """
        if self._pool is None:
            self._pool = self._open()
            self._pool.submit(list(self._tasks.values()))
        try:
            reports = self._pool.collect(timeout_s)
        except TransientError:
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


class SharedPool:
    """One pool for many threads: each has a client, with task ids of its own.

    Without it, a runner that works on several bundles at once would start a pool for each. Of the
    threads that wait for reports, one at a time collects them for all. If the pool fails, every
    client with tasks in it gets the error; the next task starts a new pool.
    """

    def __init__(self, open_pool: Callable[[], Pool]) -> None:
        self._open = open_pool
        self._pool: Pool | None = open_pool()
        self.processes = self._pool.processes
        self._turn = threading.Lock()  # held while the pool is used
        self._submitted: deque[tuple[PoolClient, Task]] = deque()
        self._owners: dict[int, tuple[PoolClient, int]] = {}  # by the task's id in the pool
        self._task_id = 0
        self._is_closed = False

    def build_client(self) -> PoolClient:
        """Return a worker pool for one thread."""
        return PoolClient(self)

    def close(self) -> None:
        """Stop the child processes."""
        self._is_closed = True
        with self._turn:
            if self._pool is not None:
                self._pool.kill() if self._owners else self._pool.close()
                self._pool = None

    def submit(self, client: PoolClient, tasks: Sequence[Task]) -> None:
        """Accept a client's tasks; the next thread that collects sends them."""
        self._check_open()
        self._submitted.extend((client, task) for task in tasks)

    def collect(self) -> None:
        """Give each client its reports, or wait for a moment while another thread does so."""
        if not self._turn.acquire(timeout=POLL_S):
            return
        try:
            self._check_open()
            for report in self._exchange():
                client, task_id = self._owners[report.task_id]
                if report.finished:
                    del self._owners[report.task_id]
                client.inbox.append(msgspec.structs.replace(report, task_id=task_id))
        finally:
            self._turn.release()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ConfigurationError("the pool is closed; open another")

    def _exchange(self) -> list[Report]:
        """Send the tasks that were submitted, and return what has become of earlier ones."""
        tasks = []
        while self._submitted:
            client, task = self._submitted.popleft()
            self._task_id += 1
            self._owners[self._task_id] = client, task.task_id
            tasks.append(msgspec.structs.replace(task, task_id=self._task_id))
        try:
            if self._pool is None:
                self._pool = self._open()
            self._pool.submit(tasks)
            return self._pool.collect(POLL_S)
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
            return []

    def _fail(self, error: BaseException) -> None:
        """Give the error to every client with tasks in the pool, and drop those tasks."""
        clients = {id(client): client for client, _ in self._owners.values()}
        self._owners.clear()
        for client in clients.values():
            client.inbox.append(error)
        pool, self._pool = self._pool, None
        if pool is not None:
            with contextlib.suppress(OSError):
                pool.kill()


class PoolClient:
    """A worker pool for one thread, on a pool that it shares with other threads."""

    def __init__(self, pool: SharedPool) -> None:
        self.processes = pool.processes
        self.inbox: deque[Report | BaseException] = deque()  # filled by any thread
        self._pool = pool
        self._pending: set[int] = set()

    def submit(self, tasks: Sequence[Task]) -> None:
        """Accept tasks."""
        self._pool.submit(self, tasks)
        self._pending.update(task.task_id for task in tasks)

    def collect(self, timeout_s: float) -> list[Report]:
        """Return reports on this client's tasks as soon as there are any, none after the timeout.

        Raises
        ------
        ConfigurationError, Unavailable
            If the pool could not start a job; the pending tasks are dropped.
        """
        end_s = time.monotonic() + timeout_s
        while self._pending and not self.inbox and time.monotonic() < end_s:
            self._pool.collect()
        reports: list[Report] = []
        while self.inbox:
            message = self.inbox.popleft()
            if isinstance(message, BaseException):
                self._pending.clear()
                raise message
            reports.append(message)
            if message.finished:
                self._pending.discard(message.task_id)
        return reports
