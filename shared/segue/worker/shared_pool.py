"""One worker pool for all the threads of a streaming process, which survives outages.

A runner works on several bundles at once, and with a pool for each, they would start too many
child processes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from segue.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from segue.worker.pool import Pool
    from segue.worker.protocol import Report, Task

# How long a thread waits at a time while another one uses the pool, and how long that one waits.
POLL_S = 0.005


class SharedPool:
    """One pool for many threads: each has a client, with task ids of its own.

    Of the threads that wait for reports, one at a time collects them for all. If the pool fails,
    every client with tasks in it gets the error; the next tasks start a new pool.
    """

    def __init__(self, open_pool: Callable[[], Pool]) -> None:
        self._open = open_pool
        self._pool: Pool | None = open_pool()
        self.processes = self._pool.processes
        self._turn = threading.Lock()  # held while the pool is used
        self._submitted: deque[tuple[PoolClient, Task]] = deque()
        self._owners: dict[int, tuple[PoolClient, int]] = {}  # by the task's id in the pool
        self._task_id = 0
        self._clients = 0
        self._is_closed = False

    @property
    def batch_files(self) -> int:
        """How many files batches need, besides those of ordinary work."""
        pool = self._pool
        return pool.batch_files if pool is not None else 0

    def build_client(self) -> PoolClient:
        """Return a worker pool for one thread."""
        with self._turn:
            self._clients += 1
        return PoolClient(self)

    def close(self) -> None:
        """Stop the child processes; kill them if tasks are unfinished."""
        self._is_closed = True
        with self._turn:
            if self._pool is not None:
                self._pool.kill() if self._owners else self._pool.close()
                self._pool = None

    @property
    def is_loading(self) -> bool:
        """Whether the jobs' code is still being imported, so that none has begun."""
        pool = self._pool
        return pool is not None and pool.is_loading

    def submit(self, client: PoolClient, tasks: Sequence[Task]) -> None:
        """Accept a client's tasks; the next thread that collects sends them."""
        self._check_open()
        self._submitted.extend((client, task) for task in tasks)

    def flush(self) -> None:
        """Let no batch wait for further tasks, unless other clients may have some."""
        if self._clients > 1 or self._is_closed:
            return
        with self._turn:
            if self._pool is not None and not self._submitted:
                self._pool.flush()

    def collect(self, timeout_s: float) -> None:
        """Give each client its reports, or wait for a moment while another thread does so."""
        wait_s = POLL_S if self._clients > 1 else timeout_s
        if not self._turn.acquire(timeout=POLL_S):
            return
        try:
            self._check_open()
            for report in self._exchange(wait_s):
                client, task_id = self._owners[report.task_id]
                if report.finished:
                    del self._owners[report.task_id]
                client.inbox.append(msgspec.structs.replace(report, task_id=task_id))
        finally:
            self._turn.release()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ConfigurationError("the pool is closed; open another")

    def _exchange(self, wait_s: float) -> list[Report]:
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
            return self._pool.collect(wait_s)
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
        self._tasks: dict[int, Task] = {}  # that are unfinished
        self._has_failed = False  # no pool has these tasks

    def submit(self, tasks: Sequence[Task]) -> None:
        """Accept tasks."""
        self._tasks.update((task.task_id, task) for task in tasks)
        if not self._has_failed:
            self._pool.submit(self, tasks)

    @property
    def batch_files(self) -> int:
        """How many files to submit besides those of ordinary work, so that batches fill."""
        return self._pool.batch_files

    def flush(self) -> None:
        """Let no batch wait for further tasks: none come, unless some are submitted after all."""
        if not self._has_failed:
            self._pool.flush()

    def collect(self, timeout_s: float) -> list[Report]:
        """Return reports on this client's tasks as soon as there are any, none after the timeout.

        Raises
        ------
        ConfigurationError
            If a job cannot be started.
        Unavailable, DiskFull
            If a service that a job needs is unavailable, or no space is left for temporary files.
            The next call tries again, unless the tasks are abandoned.
        """
        if self._has_failed:
            self._pool.submit(self, list(self._tasks.values()))
            self._has_failed = False
        end_s = time.monotonic() + timeout_s
        while self._tasks and not self.inbox:
            left_s = end_s - time.monotonic()
            self._pool.collect(max(0.0, left_s))
            if left_s <= 0:
                break
        reports: list[Report] = []
        while self.inbox:
            if isinstance(found := self.inbox[0], BaseException):
                if reports:
                    break
                self.inbox.clear()
                self._has_failed = True
                raise found
            self.inbox.popleft()
            reports.append(found)
            if found.finished:
                self._tasks.pop(found.task_id, None)
        return reports

    def abandon(self) -> None:
        """Forget all tasks; those that run are not stopped, and their reports are of no use."""
        self._tasks.clear()
        self.inbox.clear()
        self._has_failed = False
