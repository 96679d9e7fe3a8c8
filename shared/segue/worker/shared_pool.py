"""One pool of child processes for many threads: each has a desk, with tickets of its own.

A runner that works on several bundles at once would otherwise start a pool for each. The pool
itself knows only one thread, which dispatches: it hands over what desks submit, and gives each desk
what came of it.
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

# How long a task waits for the dispatcher, which listens to the children, to look up.
LOOK_S = 0.005
CLOSE_S = 10.0


class SharedPool:
    """Dispatches between desks and a pool.

    A pool in which no job can be started any more tells so at every desk that waits, and the next
    task gets a new one.
    """

    def __init__(self, opened: Callable[[], Pool]) -> None:
        self._open = opened
        self._pool: Pool | None = opened()
        self.processes = self._pool.processes
        self._changed = threading.Condition()
        self._submitted: deque[tuple[Desk, Task]] = deque()
        self._owners: dict[int, tuple[Desk, int]] = {}  # of each ticket in the pool
        self._ticket = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._dispatch, name="segue-pool", daemon=True)
        self._thread.start()

    def desk(self) -> Desk:
        """Return a crew for one thread."""
        return Desk(self)

    def close(self) -> None:
        """End the child processes."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    def submit(self, desk: Desk, tasks: Sequence[Task]) -> None:
        """Take over a desk's tasks."""
        with self._changed:
            if self._is_closed:
                raise ConfigurationError("the pool is closed; open another")
            self._submitted.extend((desk, task) for task in tasks)
            self._changed.notify_all()

    def _dispatch(self) -> None:
        while tasks := self._next():
            try:
                if self._pool is None:
                    self._pool = self._open()
                if tasks.new:
                    self._pool.submit(tasks.new)
                reports = self._pool.collect(LOOK_S)
            except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
                self._fail(error)
                continue
            self._hand_out(reports)
        if self._pool is not None:
            self._pool.kill() if self._owners else self._pool.close()

    def _next(self) -> _Batch | None:
        """Wait until there is something to do; None when it is over."""
        with self._changed:
            while not (self._submitted or self._owners or self._is_closed):
                self._changed.wait()
            if self._is_closed:
                return None
            new = []
            while self._submitted:
                desk, task = self._submitted.popleft()
                self._ticket += 1
                self._owners[self._ticket] = desk, task.ticket
                new.append(msgspec.structs.replace(task, ticket=self._ticket))
            return _Batch(new)

    def _hand_out(self, reports: Sequence[Report]) -> None:
        for report in reports:
            desk, ticket = self._owners[report.ticket]
            if report.finished:
                del self._owners[report.ticket]
            desk.receive(msgspec.structs.replace(report, ticket=ticket))

    def _fail(self, error: BaseException) -> None:
        """Tell every desk that waits; what they had submitted is forgotten."""
        if self._pool is not None:
            with contextlib.suppress(OSError):
                self._pool.kill()
            self._pool = None
        desks = {id(desk): desk for desk, _ in self._owners.values()}
        self._owners.clear()
        for desk in desks.values():
            desk.fail(error)


class _Batch:
    """What the dispatcher is to give to the pool; it is true even if there is nothing new."""

    def __init__(self, new: list[Task]) -> None:
        self.new = new


class Desk:
    """A crew for one thread, in front of a pool that it shares with others."""

    def __init__(self, pool: SharedPool) -> None:
        self._pool = pool
        self.processes = pool.processes
        self._arrived = threading.Condition()
        self._reports: list[Report] = []
        self._error: BaseException | None = None
        self._pending: set[int] = set()

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take over tasks."""
        self._pending.update(task.ticket for task in tasks)
        self._pool.submit(self, tasks)

    def collect(self, timeout_s: float) -> list[Report]:
        """Return what has become of this desk's tasks, as soon as there is anything.

        Raises
        ------
        ConfigurationError, Unavailable
            If the pool could not start a job; the tasks that were pending are forgotten.
        """
        end_s = time.monotonic() + timeout_s
        with self._arrived:
            while self._pending and not self._reports and self._error is None:
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    break
                self._arrived.wait(left_s)
            reports, self._reports = self._reports, []
            error, self._error = self._error, None
        if error is not None:
            self._pending.clear()
            raise error
        self._pending.difference_update(r.ticket for r in reports if r.finished)
        return reports

    def receive(self, report: Report) -> None:
        """Take a report in; called by the dispatcher."""
        with self._arrived:
            self._reports.append(report)
            self._arrived.notify_all()

    def fail(self, error: BaseException) -> None:
        """Take in that the pool failed; called by the dispatcher."""
        with self._arrived:
            self._error = error
            self._arrived.notify_all()
