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
from segue.worker.protocol import Aborted, Done, Phase, Report, Started, Task
from segue.worker.task_queue import TaskEntry, TaskQueue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from segue.model.graph import Graph
    from segue.model.job_code import Batching
    from segue.worker.protocol import Frame

# Once a job's first call in a process has finished, others get so many times as long.
COLD_TIMES = 2.0
# Consecutive children that may exit without finishing a job before the pool gives up.
MAX_FAILED_STARTS = 5
MAX_STAGES = 1000  # lines whose first stage is kept


class Kill(NamedTuple):
    """Why a child was killed."""

    progress: Started | None  # what it was doing then
    failure: Failure
    seconds: float | None = None  # that the job ran for


class ChildState:
    """What one child does, as far as it has told."""

    def __init__(self, job: str | None = None) -> None:
        self.job = job  # the only one that it runs, on a GPU; None: all that have no such child
        self.tasks: dict[int, TaskEntry] = {}  # by serial, in running order
        self.queue: TaskQueue | None = None  # from which these come
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
    """The unfinished tasks of a pool, and what is known about its jobs.

    Parameters
    ----------
    graph : Graph
    processes : int > 0
        The number of ordinary children.
    setup_s, warmup_s : float
        How long a setup may take, and how much longer a first call: at most twice its timeout.
    batching : mapping of str to Batching
        How the jobs that take batches collect them.
    gpu_children : mapping of str to int > 0
        How many children may run a job that has children of its own, each on a GPU.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        processes: int,
        setup_s: float,
        warmup_s: float,
        batching: Mapping[str, Batching] | None = None,
        gpu_children: Mapping[str, int] | None = None,
    ) -> None:
        self.error: Aborted | None = None  # no file can be processed
        self.now_s = 0.0  # on the monotonic clock, as of the supervisor's last look
        self._graph = graph
        self._processes = processes
        self._setup_s = setup_s
        self.plain = TaskQueue()
        batching, gpu_children = batching or {}, gpu_children or {}
        self._queues = {
            job: TaskQueue(job, batching.get(job), children=gpu_children.get(job, 0))
            for job in graph.jobs
            if job in batching or job in gpu_children
        }
        self._stages: dict[tuple[str, ...], tuple[TaskQueue, tuple[str, ...]]] = {}
        self._exclusives: deque[TaskEntry] = deque()  # that wait until nothing else runs
        self._exclusive: TaskEntry | None = None  # the one that runs
        self.unreported: dict[int, tuple[TaskEntry, list[Result]]] = {}  # by task id
        self._serial = 0
        self._warmups_s = {
            job: min(warmup_s, declared.timeout_s) for job, declared in graph.jobs.items()
        }
        self._longest_s = dict.fromkeys(graph.jobs, 0.0)
        self._failed_starts = 0
        self._failed_setups: set[str] = set()

    # Tasks and their results.

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue new tasks."""
        entries = [TaskEntry(task, self.now_s) for task in tasks]
        if not self._queues:
            self.plain.entries.extend(entries)
            return
        for queue in self._queues.values():
            queue.is_last = False
            queue.coming.update((e, None) for e in entries if queue.job in e.task.run)
        for entry in entries:
            self._queue(entry)

    def flush(self) -> None:
        """Let no batch wait for tasks that are not here yet: none come, unless some are added."""
        for queue in self._queues.values():
            queue.is_last = True

    def count_batch_files(self) -> int:
        """Return how many files the pool needs, besides those of its ordinary work, for batches to
        fill while others run.
        """
        ordinary = [queue.batch_size for queue in self._queues.values() if not queue.children]
        return self._processes * max(ordinary, default=0) + sum(
            queue.batch_size * (1 + queue.children) for queue in self._queues.values()
        )

    def list_batch_jobs(self) -> tuple[str, ...]:
        """Return the jobs for which these files are: that take batches or have a GPU."""
        return tuple(self._queues)

    def _queue(self, entry: TaskEntry, *, first: bool = False) -> None:
        """Queue a task for what it has to run next."""
        queue, entry.here = self._find_stage(entry.list_left())
        entries = self._exclusives if entry.exclusive else queue.entries
        entries.appendleft(entry) if first else entries.append(entry)
        entry.late_at_s = math.inf
        queue.coming.pop(entry, None)
        if not first:
            entry.queued_s = self.now_s

    def _find_stage(self, left: tuple[str, ...]) -> tuple[TaskQueue, tuple[str, ...]]:
        """Return the queue of a line of jobs, and those of them to run next; none if all."""
        if self._queues.keys().isdisjoint(left):
            return self.plain, ()
        if left not in self._stages:
            if len(self._stages) >= MAX_STAGES:
                self._stages.clear()
            own = [job for job in left if job in self._queues]
            later = set(own).union(*map(self._graph.find_descendants, own))
            before = tuple(job for job in left if job not in later)
            # Otherwise the first one has its own queue, since parents come first.
            found = (self.plain, before) if before else (self._queues[left[0]], left[:1])
            self._stages[left] = found
        return self._stages[left]

    def list_places(self) -> list[str | None]:
        """Return the jobs whose children get tasks of their own, and None for the others."""
        return [*(job for job, queue in self._queues.items() if queue.children), None]

    def may_assign(self, place: str | None = None, *, is_any_busy: bool) -> bool:
        """Return whether a job's own child, or an ordinary one, may get a message now, given
        whether any child has something to do.
        """
        if self.error is not None:
            return False
        is_exclusive = self._exclusive is not None and not self._exclusive.finished
        if is_any_busy and (is_exclusive or self._exclusives):
            return False
        return self._find_due(place) is not None

    def is_due(self, job: str) -> bool:
        """Whether a job with children of its own has a message for one, unless others go first."""
        return self._find_due(job) is not None

    def _find_due(self, place: str | None) -> TaskQueue | None:
        """Return the queue from which a child gets its next message, or None."""
        if self._exclusives:
            queue, _ = self._find_stage(self._exclusives[0].list_left())
            return queue if place == (queue.job if queue.children else None) else None
        if place is not None:
            queue = self._queues[place]
            return queue if queue.is_due(self.now_s) else None
        for queue in self._queues.values():
            if not queue.children and queue.is_due(self.now_s):
                return queue
        return self.plain if self.plain.entries else None

    def find_due_s(self) -> float:
        """Return when a batch has waited for long enough; infinity if none waits."""
        return min((q.find_due_s(self.now_s) for q in self._queues.values()), default=math.inf)

    def assign(self, child: ChildState) -> list[Task]:
        """Give a child the next tasks, and return them as its message."""
        child.queue = queue = self._find_due(child.job)
        if queue is None:
            return []
        if self._exclusives:
            taken = [self._exclusives.popleft()]
            self._exclusive = taken[0]
        else:
            taken = queue.take(self._processes)
        late_at_s = queue.find_late_at_s(self.now_s, len(taken))
        tasks: list[Task] = []
        for entry in taken:
            self._serial += 1
            child.tasks[self._serial] = entry
            entry.seconds, entry.late_at_s = 0.0, late_at_s
            left = entry.task.continue_after(entry.results.values())
            tasks.append(msgspec.structs.replace(left, task_id=self._serial, here=entry.here))
        return tasks

    def receive(self, child: ChildState, frames: Sequence[Frame]) -> None:
        """Record a child's message: what it has finished, and what it starts."""
        child.progress = None
        was_cold: dict[int, bool] = {}  # by serial
        for frame in frames:
            if isinstance(frame, Done):
                was_cold[frame.serial] = frame.cold
                self._record_done(child, frame)
            elif isinstance(frame, Started):
                child.progress = frame
                child.last_serial = frame.last_serial
            elif isinstance(frame, Aborted):
                self.error = self.error or frame
        for serial, cold in was_cold.items():  # once the jobs below a failed one are reported, too
            self._end_stage(child, serial, cold=cold)

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

    def _end_stage(self, child: ChildState, serial: int, *, cold: bool) -> None:
        """Take a task from its child if that has nothing more to run of it, and queue the rest."""
        entry = child.tasks.get(serial)
        if entry is None or not entry.is_stage_over:
            return
        del child.tasks[serial]
        if not cold and child.queue is not None:
            child.queue.add_duration(entry.seconds)
        entry.alone = False  # what comes next may take batches that do not crash
        if not entry.finished:
            self._queue(entry)

    def _record(self, entry: TaskEntry, result: Result) -> None:
        entry.results[result.job] = result
        if result.job in self._queues:
            self._queues[result.job].coming.pop(entry, None)
        self.unreported.setdefault(entry.task.task_id, (entry, []))[1].append(result)

    def _block_below(self, entry: TaskEntry, job: str) -> None:
        """Record that the jobs of a task that need a failed one cannot run."""
        for name in entry.task.run:
            if name not in entry.results and name in self._graph.find_descendants(job):
                self._record(entry, build_blocked_result(name, job))

    def _make_exclusive(self, entry: TaskEntry) -> None:
        """Have a task run again with nothing beside it, since that may have made it fail."""
        entry.exclusive = True

    def _put_back(self, entries: Iterable[TaskEntry]) -> None:
        """Put unfinished tasks back at the front of the queue."""
        for entry in reversed([entry for entry in entries if not entry.finished]):
            self._queue(entry, first=True)

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
        return limit_s + self._find_warmup_s(progress)

    def _find_warmup_s(self, progress: Started) -> float:
        return self._warmups_s[progress.job] if progress.phase is Phase.COLD else 0.0

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
        queue = child.queue
        if progress is None or queue is None or queue.is_for_batches or not child.tasks:
            return math.inf
        if next(reversed(child.tasks)) <= progress.last_serial:
            return math.inf
        return queue.find_late_at_s(progress.since_s)

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
        failure = build_timeout(ran_s, limit_s, self._find_warmup_s(child.progress))
        child.kill = Kill(child.progress, failure, ran_s)

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
