"""Finds out which job caused a child to exit, and what happens to the child's tasks."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NamedTuple

from segue.errors import ConfigurationError, Kind
from segue.model.record import Failure
from segue.worker.shared_state import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segue.model.graph import Graph
    from segue.worker.shared_state import Progress
    from segue.worker.task_table import TaskEntry, TaskTable
    from segue.worker.timeouts import Timeouts

# Exits between the jobs of a task, after which the task's next job is blamed.
MAX_CRASHES = 3
# Consecutive children that may exit without finishing a job before the pool gives up.
MAX_FAILED_STARTS = 5


class ExitInfo(NamedTuple):
    """The state in which a child exited."""

    status: int  # exit code, or minus the signal
    progress: Progress | None  # what it was doing
    last_taken: int  # the last order that it started
    entries: Mapping[int, TaskEntry]  # unfinished tasks, by serial
    killed: tuple[Progress, float] | None  # by the pool: its progress then, and for how long
    has_worked: bool


class CrashReport:
    """Evaluates the exits of a pool's children, one after the other."""

    def __init__(self, graph: Graph, task_table: TaskTable, timeouts: Timeouts) -> None:
        self._graph = graph
        self._names = tuple(graph.jobs)
        self._task_table = task_table
        self._timeouts = timeouts
        self._failed_starts = 0
        self._failed_setups: set[str] = set()

    def record_success(self, job: str) -> None:
        """Forget earlier failed starts: a job has returned a result."""
        self._failed_starts = 0
        if self._failed_setups:
            self._failed_setups.discard(job)

    def blame(self, exit_info: ExitInfo) -> ConfigurationError | None:
        """Fail the job at fault, if any; return an error if the pool cannot go on."""
        progress = exit_info.progress
        if progress is not None and progress.phase is Phase.SETUP:
            return self._blame_setup(self._names[progress.job], exit_info)
        if progress is None:
            return self._blame_idle_exit(exit_info)
        entry, job = exit_info.entries.get(progress.serial), self._names[progress.job]
        if exit_info.killed is not None and exit_info.killed[0] != progress:
            return None  # the late job finished just before the kill
        if exit_info.killed is not None and progress.phase is Phase.COLD:
            self._timeouts.record_first_call(job)
        if progress.files > 1:
            for serial, other in exit_info.entries.items():
                other.alone = other.alone or serial <= exit_info.last_taken
        elif entry is None or job in entry.results:
            return self._blame_idle_exit(exit_info)
        elif exit_info.killed is not None:
            limit_s, ran_s = self._graph.jobs[job].timeout_s, exit_info.killed[1]
            self._task_table.fail(entry, job, build_timeout(ran_s, limit_s), seconds=ran_s)
        else:
            self._task_table.fail(entry, job, build_crash(exit_info.status))
        return None

    def _blame_setup(self, job: str, exit_info: ExitInfo) -> ConfigurationError | None:
        """Return an error if a job's setup is at fault; one crash may have another cause."""
        if exit_info.killed is not None:
            return ConfigurationError(
                f"job {job!r} cannot start: its setup took longer than "
                f"{self._timeouts.setup_s:g} s; make it faster"
            )
        if job in self._failed_setups:
            return ConfigurationError(
                f"job {job!r} cannot start: its process {describe_exit(exit_info.status)}, "
                "for the second time during its setup"
            )
        self._failed_setups.add(job)
        return None

    def _blame_idle_exit(self, exit_info: ExitInfo) -> ConfigurationError | None:
        """Count an exit between jobs, such as an outside kill; blame the next job if it recurs."""
        self._failed_starts += not exit_info.has_worked
        if self._failed_starts > MAX_FAILED_STARTS:
            return ConfigurationError(
                f"{self._failed_starts} child processes in a row exited before they finished a job "
                f"(the last one {describe_exit(exit_info.status)}); see their standard error"
            )
        for serial, entry in exit_info.entries.items():
            if serial <= exit_info.last_taken and not entry.finished:
                entry.crashes += 1
                if entry.crashes > MAX_CRASHES:
                    job = next(j for j in entry.task.run if j not in entry.results)
                    self._task_table.fail(entry, job, build_crash(exit_info.status))
                break
        return None


def build_timeout(ran_s: float, limit_s: float) -> Failure:
    """Return the failure of a job that was stopped at its timeout."""
    message = (
        f"it was stopped after {ran_s:.1f} s; its timeout_s is {limit_s:g}: raise it, "
        "or find out what the job waits for"
    )
    return Failure(kind=Kind.TIMEOUT, type="JobTimeout", message=message)


def build_crash(status: int) -> Failure:
    """Return the failure of a job whose process crashed."""
    return Failure(
        kind=Kind.CRASHED, type="JobCrashed", message=f"its process {describe_exit(status)}"
    )


def describe_exit(status: int) -> str:
    """Return how a process ended, as a clause without its subject."""
    if status >= 0:
        return f"exited with code {status}: the job, or code that it calls, ends the process"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    text = f"was killed by signal {-status} ({name})"
    if -status == signal.SIGKILL:
        return f"{text}, but not by Segue: the machine probably ran out of memory; see dmesg"
    return text
