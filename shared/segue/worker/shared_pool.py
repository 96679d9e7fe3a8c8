"""One pool of child processes for many threads: each has a client, with task ids of its own.

Without it, a runner that works on several bundles at once would start a pool for each. Only one
thread, the dispatcher, uses the pool itself: it submits the clients' tasks, and gives each client
its reports.
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
    from segue.worker.task import Report, Task

# The longest time that a new task waits for the dispatcher, which waits for the children meanwhile.
POLL_S = 0.005
CLOSE_S = 10.0


class SharedPool:
    """Shares one pool between many clients.

    If the pool fails, every client with pending tasks gets the error; the next task starts a new
    pool.
    """

    def __init__(self, open_pool: Callable[[], Pool]) -> None:
        self._open = open_pool
        self._pool: Pool | None = open_pool()
        self.processes = self._pool.processes
        self._changed = threading.Condition()
        self._submitted: deque[tuple[PoolClient, Task]] = deque()
        self._owners: dict[int, tuple[PoolClient, int]] = {}  # by the task's id in the pool
        self._task_id = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._dispatch, name="segue-pool", daemon=True)
        self._thread.start()

    def build_client(self) -> PoolClient:
        """Return a worker pool for one thread."""
        return PoolClient(self)

    def close(self) -> None:
        """Stop the dispatcher and the child processes."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    def submit(self, client: PoolClient, tasks: Sequence[Task]) -> None:
        """Accept a client's tasks."""
        with self._changed:
            if self._is_closed:
                raise ConfigurationError("the pool is closed; open another")
            self._submitted.extend((client, task) for task in tasks)
            self._changed.notify_all()

    def _dispatch(self) -> None:
        while tasks := self._wait_for_tasks():
            try:
                if self._pool is None:
                    self._pool = self._open()
                if tasks.new:
                    self._pool.submit(tasks.new)
                reports = self._pool.collect(POLL_S)
            except BaseException as error:  # noqa: BLE001 - the waiting clients must get it
                self._fail(error)
                continue
            self._deliver(reports)
        if self._pool is not None:
            self._pool.kill() if self._owners else self._pool.close()

    def _wait_for_tasks(self) -> _NewTasks | None:
        """Wait until there is something to do; return None once the pool is closed."""
        with self._changed:
            while not (self._submitted or self._owners or self._is_closed):
                self._changed.wait()
            if self._is_closed:
                return None
            new = []
            while self._submitted:
                client, task = self._submitted.popleft()
                self._task_id += 1
                self._owners[self._task_id] = client, task.task_id
                new.append(msgspec.structs.replace(task, task_id=self._task_id))
            return _NewTasks(new)

    def _deliver(self, reports: Sequence[Report]) -> None:
        for report in reports:
            client, task_id = self._owners[report.task_id]
            if report.finished:
                del self._owners[report.task_id]
            client.receive(msgspec.structs.replace(report, task_id=task_id))

    def _fail(self, error: BaseException) -> None:
        """Give the error to every client with tasks in the pool, and drop those tasks."""
        if self._pool is not None:
            with contextlib.suppress(OSError):
                self._pool.kill()
            self._pool = None
        clients = {id(client): client for client, _ in self._owners.values()}
        self._owners.clear()
        for client in clients.values():
            client.fail(error)


class _NewTasks:
    """Tasks to submit to the pool; unlike a list, true even if there are none."""

    def __init__(self, new: list[Task]) -> None:
        self.new = new


class PoolClient:
    """A worker pool for one thread, on a pool that it shares with other threads."""

    def __init__(self, pool: SharedPool) -> None:
        self._pool = pool
        self.processes = pool.processes
        self._arrived = threading.Condition()
        self._reports: list[Report] = []
        self._error: BaseException | None = None
        self._pending: set[int] = set()

    def submit(self, tasks: Sequence[Task]) -> None:
        """Accept tasks."""
        self._pending.update(task.task_id for task in tasks)
        self._pool.submit(self, tasks)

    def collect(self, timeout_s: float) -> list[Report]:
        """Return reports on this client's tasks as soon as there are any, none after the timeout.

        Raises
        ------
        ConfigurationError, Unavailable
            If the pool could not start a job; the pending tasks are dropped.
        """
        end_s = time.monotonic() + timeout_s
        with self._arrived:
            while self._pending and not self._reports and self._error is None:
                remaining_s = end_s - time.monotonic()
                if remaining_s <= 0:
                    break
                self._arrived.wait(remaining_s)
            reports, self._reports = self._reports, []
            error, self._error = self._error, None
        if error is not None:
            self._pending.clear()
            raise error
        self._pending.difference_update(r.task_id for r in reports if r.finished)
        return reports

    def receive(self, report: Report) -> None:
        """Accept a report; called by the dispatcher."""
        with self._arrived:
            self._reports.append(report)
            self._arrived.notify_all()

    def fail(self, error: BaseException) -> None:
        """Accept the pool's error; called by the dispatcher."""
        with self._arrived:
            self._error = error
            self._arrived.notify_all()
