"""A pool of child processes that runs tasks on every core, and survives hangs and crashes.

It uses one thread and no polling: ``submit`` sends tasks to children; ``collect`` waits for their
results, enforces timeouts, and gives the tasks of a crashed child to others. If a job hangs,
crashes or runs out of memory, that costs one job of one file; the file's other jobs and all other
files go on.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING, Self

from segue.errors import ConfigurationError, SegueError, Unavailable
from segue.model.transitions import Result
from segue.worker import numba_cache
from segue.worker.batch_size import LATE_S, MIN_FILL, BatchSize
from segue.worker.child_config import ChildConfig
from segue.worker.child_handle import READ, WRITE, ChildHandle
from segue.worker.crash_report import CrashReport, ExitInfo, describe_exit
from segue.worker.fork_server_client import ChildStarted, ForkServerClient
from segue.worker.protocol import BatchJobLoaded, Done, Exiting, Order, Returned
from segue.worker.scratch import Scratch
from segue.worker.task_table import TaskTable
from segue.worker.timeouts import Timeouts

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from types import TracebackType

    from segue.model.graph import Graph
    from segue.worker.protocol import Frame
    from segue.worker.shared_state import Progress
    from segue.worker.task import Report, Task
    from segue.worker.task_table import TaskEntry

IMPORT_S = 600.0
SETUP_S = 600.0
WARMUP_S = 60.0
GRACE_S = 5.0
# Less work than this is finished before it could be moved to another child.
MIN_MOVE_S = 0.01
MAX_LOST_FORK_SERVERS = 3


def count_cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """Child processes, and the tasks that they work on.

    Parameters
    ----------
    graph : Graph
    artifacts : str
        Where artifacts are written: ``gs://bucket/prefix`` or a folder.
    processes : int > 0, optional
        The maximum number of children; by default one per processor. They are started when there is
        work for them.
    jobs : collection of str, optional
        The jobs to load once, before children are forked; by default all of the graph. Tasks may
        name others, which are then loaded in each child.
    setup_s : float > 0
        How long a job's import, construction and setup may take, once per process. Memory is not
        limited meanwhile: what a job loads then counts as the process's own.
    warmup_s : float >= 0
        How much longer than ``timeout_s`` a job's first call in a process may take, as it compiles
        and loads things. Once such a call has ended, later ones get twice the longest duration.
    max_growth_gib : float > 0
        A child that holds this much more memory than after its jobs' setup leaks: it is replaced.
    max_tasks : int > 0
        A child is replaced after this many tasks.
    scratch : str, optional
        The folder for temporary files; by default the system's.
    """

    def __init__(
        self,
        graph: Graph,
        artifacts: str,
        *,
        processes: int | None = None,
        jobs: Collection[str] | None = None,
        setup_s: float = SETUP_S,
        warmup_s: float = WARMUP_S,
        max_growth_gib: float = 1.0,
        max_tasks: int = 100_000,
        scratch: str | None = None,
    ) -> None:
        self.graph = graph
        self.processes = processes or count_cores()
        self._timeouts = Timeouts(graph, setup_s=setup_s, warmup_s=warmup_s)
        self._task_table = TaskTable(graph)
        self._crash_report = CrashReport(graph, self._task_table, self._timeouts)
        self._batch_size = BatchSize()
        self._children: dict[int, ChildHandle] = {}
        self._serial = self._child_count = 0
        self._lost_fork_servers = 0
        self._setup_error: SegueError | None = None
        self._is_closed = False
        self._next_check_s = 0.0
        # A call that starts now cannot be late before that.
        self._check_interval_s = min(LATE_S, self._timeouts.shortest_s)
        self._selector = selectors.DefaultSelector()
        self._scratch = Scratch(scratch)
        self._config = ChildConfig(
            graph=graph,
            jobs=frozenset(graph.jobs if jobs is None else jobs),
            artifacts=artifacts,
            saves_numba_cache=numba_cache.VARIABLE not in os.environ,
            folder=self._scratch.path,
            max_growth_gib=max_growth_gib,
            max_tasks=max_tasks,
        )
        try:
            self._start_fork_server()
        except BaseException:
            self._selector.close()
            self._scratch.remove()
            raise

    def _start_fork_server(self) -> None:
        self._fork_server = ForkServerClient(self._config)
        self._opened_s = time.monotonic()
        self._selector.register(self._fork_server.channel, READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    @property
    def pending(self) -> int:
        """The number of submitted tasks that are not finished."""
        return self._task_table.pending

    @property
    def free_slots(self) -> int:
        """The number of further tasks to submit now, to keep all children busy."""
        return max(0, 3 * self.processes * self._batch_size.estimate_message_size() - self.pending)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Accept tasks; each of their jobs will be reported once."""
        for run in {task.run for task in tasks}:
            unknown = [name for name in run if name not in self.graph.jobs]
            if not run:
                raise ConfigurationError("a task names no jobs; name at least one")
            if unknown:
                raise ConfigurationError(
                    f"a task names {', '.join(unknown)}, not in the graph; name only its jobs"
                )
        self._task_table.add(tasks)
        self._dispatch()

    def collect(self, timeout_s: float) -> list[Report]:
        """Return reports as soon as there are any, or none after the timeout.

        Call it in a loop while tasks are pending: it enforces the jobs' timeouts. With nothing
        pending it returns at once.

        Raises
        ------
        ConfigurationError
            If a job cannot be set up, or reports a wrong setup: no file could be processed.
        Unavailable
            If a job's setup needs a service that is unavailable.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            self._poll(0.0 if self._task_table.has_reports else end_s - time.monotonic())
            if reports := self._task_table.take_reports():
                return reports
            if self._setup_error is not None:
                raise self._setup_error
            if not self._task_table.pending or time.monotonic() >= end_s:
                return []

    def close(self) -> None:
        """Stop the children after their current files, or after a few seconds."""
        if self._is_closed:
            return
        self._task_table.queue.clear()
        for child in self._children.values():
            child.shut_down()
        end_s = time.monotonic() + GRACE_S
        self._is_closed = True
        while self._children and (left_s := end_s - time.monotonic()) > 0:
            self._poll(left_s)
        if self._config.saves_numba_cache and not self._children:
            with os.scandir(self._scratch.path) as entries:
                numba_cache.save([os.path.join(e.path, numba_cache.NAME) for e in entries])
        self._release()

    def kill(self) -> None:
        """Kill the children at once, and drop results that were not collected."""
        if not self._is_closed:
            self._is_closed = True
            self._release()

    def _release(self) -> None:
        self._fork_server.close(is_graceful=self._fork_server.has_forked)
        for child in self._children.values():
            child.close()
        self._children.clear()
        self._selector.close()
        self._scratch.remove()

    # Sending tasks.

    def _dispatch(self) -> None:
        """Send queued tasks: each child may hold two messages, one to run and one in reserve."""
        while self._task_table.queue and not self._is_closed and self._setup_error is None:
            child = self._find_free_child()
            if child is None:
                return
            self._send_message(child)

    def _find_free_child(self) -> ChildHandle | None:
        best = None
        for child in self._children.values():
            if child.is_late or child.exits_by_s or child.killed:
                continue
            load = child.load
            if load == 0:
                return child
            if load == 1 and best is None:
                best = child
        if len(self._children) >= self.processes:
            return best
        self._child_count += 1
        child = ChildHandle(
            self._child_count, self._fork_server, self._selector, jobs=len(self.graph.jobs)
        )
        self._children[self._child_count] = child
        return child

    def _send_message(self, child: ChildHandle) -> None:
        """Send a child one message: about ``MESSAGE_S`` of work, and at most its fair share."""
        queue, batch_size = self._task_table.queue, self._batch_size
        fair_share = -(-len(queue) // (2 * self.processes))
        orders: list[Order] = []
        entries: list[TaskEntry] = []
        filled = 0.0
        while queue and filled < 1.0 and (len(orders) < fair_share or filled < MIN_FILL):
            entry = queue.popleft()
            if entry.alone and orders:
                queue.appendleft(entry)
                break
            self._serial += 1
            task = entry.task
            orders.append(
                Order(
                    self._serial,
                    task.media.uri,
                    task.media.generation,
                    entry.run,
                    dict(entry.inputs),
                    task.force,
                    entry.alone,
                )
            )
            entries.append(entry)
            filled += 1.0 if entry.alone else batch_size.estimate_share(entry.run)
        child.send_orders(orders, entries)

    # Receiving results.

    def _poll(self, wait_s: float) -> None:
        """Wait for events, at most ``wait_s``, and handle them."""
        self._dispatch()
        now_s = time.monotonic()
        if now_s >= self._next_check_s:
            self._check_timeouts(now_s)
        wait_s = max(0.0, min(wait_s, self._next_check_s - now_s))
        for key, events in self._selector.select(wait_s):
            if key.data is None:
                self._handle_notices()
            elif key.data.number in self._children:
                if events & WRITE:
                    key.data.flush()
                for frame in key.data.receive() if events & READ else ():
                    self._handle_frame(key.data, frame)
        self._dispatch()
        self._rebalance()

    def _handle_frame(self, child: ChildHandle, frame: Frame) -> None:
        """Handle a frame that a child has sent."""
        child.is_late = False
        if isinstance(frame, Done):
            self._record_done(child, frame)
        elif isinstance(frame, Returned):
            entries = [child.entries.pop(s) for s in frame.serials if s in child.entries]
            self._task_table.put_back(entries)
        elif isinstance(frame, BatchJobLoaded):
            self._batch_size.set_batch_size(frame.job, frame.batch_size)
        elif isinstance(frame, Exiting):
            child.exits_by_s = time.monotonic() + GRACE_S
        elif self._setup_error is None:
            self._setup_error = (Unavailable if frame.transient else ConfigurationError)(
                frame.message
            )

    def _record_done(self, child: ChildHandle, frame: Done) -> None:
        entry = child.entries.get(frame.serial)
        if entry is None or frame.job in entry.results:
            return
        child.has_worked = True
        self._crash_report.record_success(frame.job)
        entry.seconds += frame.seconds
        if frame.cold:
            entry.is_representative = False
            self._timeouts.record_first_call(frame.job, frame.seconds)
        result = Result(
            job=frame.job,
            state=frame.state,
            artifact=frame.artifact,
            checksum=frame.checksum,
            error=frame.error,
            seconds=frame.seconds,
            cpu_seconds=frame.cpu_seconds,
        )
        if self._task_table.record(entry, result):
            del child.entries[frame.serial]
            if entry.is_representative:
                self._batch_size.learn(entry.run, entry.seconds)

    def _handle_notices(self) -> None:
        """Handle the fork server's notices of started and exited children."""
        notices = self._fork_server.receive_notices()
        if notices is None:
            self._replace_fork_server()
            return
        for notice in notices:
            child = self._children.get(notice.child)
            if child is None:
                continue
            if isinstance(notice, ChildStarted):
                child.process = notice.process
            else:
                self._handle_exit(child, notice.status)

    # Handling timeouts and exits.

    def _check_timeouts(self, now_s: float) -> None:
        """Kill children past their timeout; give other children the tasks behind a late one."""
        none_started = self._children and not self._fork_server.has_forked
        if none_started and now_s - self._opened_s > IMPORT_S:
            self._setup_error = self._setup_error or ConfigurationError(
                f"the jobs' modules took longer than {IMPORT_S:g} s to import; make them faster"
            )
        next_s = now_s + self._check_interval_s
        for child in self._children.values():
            if child.is_corrupt or (child.exits_by_s and now_s > child.exits_by_s):
                self._fork_server.kill(child.number)
            progress = child.read_progress()
            if progress is None or child.killed:
                continue
            limit_s, ran_s = self._timeouts.find_limit_s(progress), now_s - progress.since_s
            if ran_s > limit_s:
                child.killed = (progress, ran_s)
                self._fork_server.kill(child.number)
            elif child.entries and ran_s > self._estimate_late_s(child, progress):
                for frame in child.read_unsent():
                    self._handle_frame(child, frame)
                if behind := child.revoke_orders():
                    self._task_table.put_back(behind)
                    child.is_late = True
            next_s = min(next_s, progress.since_s + limit_s)
        self._next_check_s = max(next_s, now_s + 0.001)

    def _estimate_late_s(self, child: ChildHandle, progress: Progress) -> float:
        return (
            self._batch_size.estimate_late_s(next(iter(child.entries.values())).run)
            * progress.files
        )

    def _rebalance(self) -> None:
        """If a child is idle, revoke orders that wait in other children, and queue them again."""
        if self._task_table.queue or self._is_closed:
            return
        if len(self._children) >= self.processes and all(
            child.entries for child in self._children.values()
        ):
            return
        for child in self._children.values():
            if len(child.entries) > 1 and not child.killed:
                last = child.entries[next(reversed(child.entries))]
                seconds = self._batch_size.estimate_s(last.run)
                if seconds is None or seconds * (len(child.entries) - 1) > MIN_MOVE_S:
                    self._task_table.put_back(child.revoke_orders())

    def _handle_exit(self, child: ChildHandle, status: int, *, not_at_fault: bool = False) -> None:
        """Handle a child's exit: read its last frames, find the job at fault, requeue its tasks."""
        for frame in child.read_final_frames():
            self._handle_frame(child, frame)
        exit_info = ExitInfo(
            status,
            child.read_progress(),
            child.shared_state.last_taken,
            child.entries,
            child.killed,
            child.has_worked,
        )
        del self._children[child.number]
        child.close()
        if self._is_closed or self._setup_error is not None:
            return
        if not (not_at_fault or child.exits_by_s):
            self._setup_error = self._crash_report.blame(exit_info)
        self._task_table.put_back(child.entries.values())

    def _replace_fork_server(self) -> None:
        """Start a new fork server after the old one, and so all its children, have died."""
        self._selector.unregister(self._fork_server.channel)
        status = self._fork_server.close(is_graceful=False)
        for child in tuple(self._children.values()):
            if child.process is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.process, signal.SIGKILL)
            self._handle_exit(child, -signal.SIGKILL, not_at_fault=True)
        self._lost_fork_servers += 1
        if not self._fork_server.has_forked or self._lost_fork_servers > MAX_LOST_FORK_SERVERS:
            self._setup_error = ConfigurationError(
                f"the fork server {describe_exit(status)}; see its standard error"
            )
        if not self._is_closed and self._setup_error is None:
            self._start_fork_server()
