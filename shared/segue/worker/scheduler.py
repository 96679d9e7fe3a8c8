"""Decides which tasks a child gets, how long it may take, and which job is at fault if it exits.

The scheduler starts and kills no process, and has no clock: the supervisor tells it what happens.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from segue.errors import Kind
from segue.model.record import Failure, State
from segue.model.transitions import Result, build_blocked_result
from segue.worker.failure import (
    OTHERS_SIGNALS,
    build_crash,
    build_timeout,
    describe_crash,
    shorten,
)
from segue.worker.protocol import Aborted, BatchJobLoaded, Done, Phase, Report, Started, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from segue.model.graph import Graph
    from segue.worker.protocol import Frame

MESSAGE_S = 0.05  # of work in one message to a child, as far as it can be estimated
MAX_MESSAGE = 250
WEIGHT = 0.05  # of a task's duration in the mean
# A task that takes longer than this, and than so many times the mean, is late.
LATE_S = 0.2
LATE_TIMES = 4.0
# Once a job's first call in a process has finished, others get so many times as long.
COLD_TIMES = 2.0
# Consecutive children that may exit without finishing a job before the pool gives up.
MAX_FAILED_STARTS = 5


class TaskEntry:
    """A task that is not finished."""

    __slots__ = ("alone", "exclusive", "results", "seconds", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.results: dict[str, Result] = {}
        self.seconds = 0.0
        self.alone = False  # not to be sent with other tasks: such a batch has crashed
        self.exclusive = False  # nothing else may run meanwhile: that may have made it fail

    @property
    def finished(self) -> bool:
        """Whether each of its jobs has a result."""
        return len(self.results) == len(self.task.run)


class Kill(NamedTuple):
    """Why a child was killed."""

    progress: Started | None  # what it was doing then
    failure: Failure
    seconds: float | None = None  # that the job ran for


class ChildState:
    """What one child does, as far as it has told."""

    def __init__(self) -> None:
        self.tasks: dict[int, TaskEntry] = {}  # by serial, in running order
        self.progress: Started | None = None  # None between messages
        self.last_serial = 0  # of the tasks that it has started
        self.kill: Kill | None = None
        self.no_space: tuple[TaskEntry, Result] | None = None  # a failure to be judged at the exit
        self.has_worked = False


class FreeSpace(NamedTuple):
    """Whether the disks had space when a child exited, and have it once its files are removed."""

    was_full: bool = False
    is_full: bool = False
    text: str = ""  # how much is free, and where


ROOMY = FreeSpace()


class Scheduler:
    """The unfinished tasks of a pool, and what is known about its jobs."""

    def __init__(self, graph: Graph, *, processes: int, setup_s: float, warmup_s: float) -> None:
        self.error: Aborted | None = None  # no file can be processed
        self._graph = graph
        self._processes = processes
        self._setup_s = setup_s
        self.queue: deque[TaskEntry] = deque()
        self._exclusive: TaskEntry | None = None  # the one that runs
        self.unreported: dict[int, tuple[TaskEntry, list[Result]]] = {}  # by task id
        self._serial = 0
        self._mean_s: float | None = None  # of a task
        self._batch_sizes: dict[str, int] = {}
        self._warmups_s = dict.fromkeys(graph.jobs, warmup_s)
        self._longest_s = dict.fromkeys(graph.jobs, 0.0)
        self._failed_starts = 0
        self._failed_setups: set[str] = set()

    # Tasks and their results.

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue new tasks."""
        self.queue.extend(map(TaskEntry, tasks))

    def may_assign(self, *, is_any_busy: bool) -> bool:
        """Return whether the next task may start, given whether any child has something to do."""
        if not self.queue or self.error is not None:
            return False
        is_exclusive = self._exclusive is not None and not self._exclusive.finished
        return not is_any_busy or not (is_exclusive or self.queue[0].exclusive)

    def assign(self, child: ChildState) -> list[Task]:
        """Give a child the next tasks, and return them as its message."""
        size = self._choose_size()
        tasks: list[Task] = []
        while self.queue and len(tasks) < size and not (tasks and self.queue[0].alone):
            entry = self.queue.popleft()
            self._serial += 1
            child.tasks[self._serial] = entry
            left = entry.task.continue_after(entry.results.values())
            tasks.append(msgspec.structs.replace(left, task_id=self._serial))
            if entry.exclusive:
                self._exclusive = entry
            if entry.alone:
                break
        return tasks

    def _choose_size(self) -> int:
        """Return how many tasks make a message: one batch, or ``MESSAGE_S`` of work, but not more
        than a child's fair share.
        """
        size = max(self._batch_sizes.get(job, 1) for job in self.queue[0].task.run)
        if self._mean_s is not None:
            size = max(size, min(MAX_MESSAGE, int(MESSAGE_S / max(self._mean_s, 1e-6))))
        return min(size, -(-len(self.queue) // (2 * self._processes)))

    def receive(self, child: ChildState, frames: Sequence[Frame]) -> None:
        """Record a child's message: what it has finished, and what it starts."""
        child.progress = None
        for frame in frames:
            if isinstance(frame, Done):
                self._record_done(child, frame)
            elif isinstance(frame, Started):
                child.progress = frame
                child.last_serial = frame.last_serial
            elif isinstance(frame, BatchJobLoaded):
                self._batch_sizes[frame.job] = frame.batch_size
            elif isinstance(frame, Aborted):
                self.error = self.error or frame

    def _record_done(self, child: ChildState, frame: Done) -> None:
        entry, result = child.tasks.get(frame.serial), frame.result
        if frame.cold:
            self.record_first_call(result.job, result.seconds or 0.0)
        if entry is None or result.job in entry.results:  # another child has the task
            return
        child.has_worked = True
        self._failed_starts = 0
        self._failed_setups.discard(result.job)
        if frame.in_doubt and not entry.exclusive:
            self._make_exclusive(entry)
            return
        if result.error is not None and result.error.kind == Kind.DISK_FULL:
            child.no_space = entry, result
            return
        entry.seconds += result.seconds or 0.0
        self._record(entry, result)
        if frame.in_doubt and result.state is State.FAILED:
            self._block_below(entry, result.job)
        if entry.finished:
            del child.tasks[frame.serial]
            if not frame.cold:
                mean_s = entry.seconds if self._mean_s is None else self._mean_s
                self._mean_s = mean_s + WEIGHT * (entry.seconds - mean_s)

    def _record(self, entry: TaskEntry, result: Result) -> None:
        entry.results[result.job] = result
        self.unreported.setdefault(entry.task.task_id, (entry, []))[1].append(result)

    def _block_below(self, entry: TaskEntry, job: str) -> None:
        """Record that the jobs of a task that need a failed one cannot run."""
        for name in entry.task.run:
            if name not in entry.results and name in self._graph.find_descendants(job):
                self._record(entry, build_blocked_result(name, job))

    def _make_exclusive(self, entry: TaskEntry) -> None:
        """Have a task run again with nothing beside it, since that may have made it fail."""
        entry.exclusive = entry.alone = True

    def _put_back(self, entries: Iterable[TaskEntry]) -> None:
        """Put unfinished tasks back at the front of the queue."""
        self.queue.extendleft(reversed([entry for entry in entries if not entry.finished]))

    def take_reports(self) -> list[Report]:
        """Return the results that have not been reported yet."""
        unreported, self.unreported = self.unreported, {}
        return [
            Report(task_id=task_id, results=tuple(results), finished=entry.finished)
            for task_id, (entry, results) in unreported.items()
        ]

    # Time limits.

    def find_limit_s(self, progress: Started) -> float:
        """Return how long a call may take; a batch gets the sum over its files."""
        if progress.phase is Phase.SETUP:
            return self._setup_s
        limit_s = self._graph.jobs[progress.job].timeout_s * progress.files
        return limit_s + self._warmups_s[progress.job] * (progress.phase is Phase.COLD)

    def record_first_call(self, job: str, seconds: float = 0.0) -> None:
        """Record a first call's duration; 0 if it was stopped, which says nothing of others."""
        self._longest_s[job] = max(self._longest_s[job], seconds)
        self._warmups_s[job] = COLD_TIMES * self._longest_s[job]

    def find_deadline_s(self, child: ChildState) -> float:
        """Return when a child must be killed unless it finishes its job before."""
        if child.progress is None or child.kill is not None:
            return math.inf
        return child.progress.since_s + self.find_limit_s(child.progress)

    def find_late_s(self, child: ChildState) -> float:
        """Return from when on a child holds up the tasks that wait behind its current one."""
        progress = child.progress
        if progress is None or not child.tasks:
            return math.inf
        if next(reversed(child.tasks)) <= progress.last_serial:
            return math.inf
        return progress.since_s + max(LATE_S, LATE_TIMES * (self._mean_s or 0.0)) * progress.files

    def take_back(self, child: ChildState) -> None:
        """Queue the tasks again that a child has not started.

        If it starts one at this moment, its result is ignored: another child computes it, too.
        """
        behind = [serial for serial in child.tasks if serial > child.last_serial]
        self._put_back([child.tasks.pop(serial) for serial in behind])

    def record_timeout(self, child: ChildState, now_s: float) -> None:
        """Record that a child is killed because its job is past the deadline."""
        assert child.progress is not None
        ran_s = now_s - child.progress.since_s
        limit_s = self._graph.jobs[child.progress.job].timeout_s
        child.kill = Kill(child.progress, build_timeout(ran_s, limit_s), ran_s)

    def record_corrupt(self, child: ChildState) -> None:
        """Record that a child is killed because it has sent bytes that are no message."""
        child.kill = child.kill or Kill(
            child.progress,
            build_crash(
                "its process was stopped, as it sent data that Segue cannot read: the job, or code "
                "that it calls, writes to file descriptors that it did not open"
            ),
        )

    # Exits.

    def handle_exit(self, child: ChildState, status: int, space: FreeSpace = ROOMY) -> None:
        """Fail the job at fault for a child's exit, if any, and queue the child's other tasks."""
        progress = child.progress
        if child.no_space is not None:
            self._judge_space(*child.no_space, space)
        if child.kill is not None and child.kill.progress != progress:
            pass  # it finished its job just before the kill
        elif progress is None:
            if status:
                self._count_idle_exit(child, status)
        elif progress.phase is Phase.SETUP:
            self._count_failed_setup(progress.job, child, status)
        else:
            self._blame(progress, child, status, space)
        self._put_back(child.tasks.values())

    def _blame(self, progress: Started, child: ChildState, status: int, space: FreeSpace) -> None:
        """Record that the running job failed for its file, and that the jobs below are blocked."""
        entry, job = child.tasks.get(progress.serial), progress.job
        alone = "; nothing else was running" if entry is not None and entry.exclusive else ""
        crash = build_crash(f"its process {describe_crash(status)}{alone}")
        kill = child.kill or Kill(progress, crash)
        if kill.failure.kind == Kind.TIMEOUT and progress.phase is Phase.COLD:
            self.record_first_call(job)
        if progress.files > 1:
            for serial, other in child.tasks.items():
                other.alone = other.alone or serial <= progress.last_serial
        elif entry is None or job in entry.results:
            self._count_idle_exit(child, status)
        elif (
            child.kill is None
            and (-status in OTHERS_SIGNALS or space.was_full)
            and not entry.exclusive
        ):
            self._make_exclusive(entry)
        else:
            result = Result(job=job, state=State.FAILED, error=kill.failure, seconds=kill.seconds)
            if child.kill is None and space.was_full:
                self._judge_space(entry, result, space)
                return
            self._record(entry, result)
            self._block_below(entry, job)

    def _judge_space(self, entry: TaskEntry, result: Result, space: FreeSpace) -> None:
        """Record that a job needs too much space for its file, or that a disk is full without it.

        In the latter case, no job of the file can succeed now.
        """
        error = result.error
        assert error is not None
        if space.is_full:
            message = f"{space.text}; free some space, then run again ({error.message})"
            full = Failure(kind=Kind.DISK_FULL, type=error.type, message=shorten(message))
            for name in entry.task.run:
                if name not in entry.results:
                    self._record(entry, Result(job=name, state=State.QUEUED, error=full))
            return
        message = (
            f"it needs more space than is free ({space.text}): free some, or set TMPDIR to a "
            f"folder on a larger disk; the next backfill tries it again ({error.message})"
        )
        failure = Failure(kind=Kind.NO_SPACE, type=error.type, message=shorten(message))
        self._record(
            entry,
            Result(
                job=result.job,
                state=State.FAILED,
                error=failure,
                seconds=result.seconds,
                cpu_seconds=result.cpu_seconds,
            ),
        )
        self._block_below(entry, result.job)

    def _count_failed_setup(self, job: str, child: ChildState, status: int) -> None:
        """Give up if a job's setup is at fault; a first crash may have another cause."""
        if child.kill is not None and child.kill.failure.kind == Kind.TIMEOUT:
            self._give_up(
                f"job {job!r} cannot start: its setup took longer than {self._setup_s:g} s; "
                "make it faster"
            )
        elif job in self._failed_setups:
            self._give_up(
                f"job {job!r} cannot start: its process {describe_crash(status)}, "
                "for the second time during its setup"
            )
        self._failed_setups.add(job)

    def _count_idle_exit(self, child: ChildState, status: int) -> None:
        """Count an exit that is no job's fault, such as an outside kill; give up if it recurs."""
        self._failed_starts += not child.has_worked
        if self._failed_starts > MAX_FAILED_STARTS:
            self._give_up(
                f"{self._failed_starts} child processes in a row exited before they finished a job "
                f"(the last one {describe_crash(status)}); see what they have printed"
            )

    def _give_up(self, message: str) -> None:
        self.error = self.error or Aborted(message)
