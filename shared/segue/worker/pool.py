"""A pool of child processes that runs tasks on every core, and survives hangs and crashes.

The pool sends tasks to its supervisor, a process of its own, and receives reports. If a job hangs,
crashes or runs out of memory, that costs one job of one file; the file's other jobs and all other
files go on.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import msgspec

from segue.clock import utc_now
from segue.errors import ConfigurationError, DiskFull, SegueError, build_error
from segue.model.record import State
from segue.model.transitions import Result, build_blocked_result
from segue.printable import escape
from segue.worker import import_path, numba_cache
from segue.worker.failure import (
    DISK_FULL_ERRNOS,
    build_crash,
    describe_exit,
    drop_traceback,
)
from segue.worker.job_log import ProgressLog, show_line
from segue.worker.job_output import SupervisorOutput
from segue.worker.process import Scratch, kill_group, kill_users
from segue.worker.protocol import (
    Channel,
    PoolConfig,
    Report,
    RunningCall,
    Submission,
    Task,
    Update,
    decode_update,
)
from segue.worker.running_job import RunningJob, RunningWriter
from segue.worker.secrets import hide_variables, resolve_secrets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from types import TracebackType

    from segue.model.graph import Graph

IMPORT_S = 600.0
SETUP_S = 600.0
WARMUP_S = 60.0
CLOSE_S = 10.0  # longer than the supervisor gives its children
EXIT_S = 5.0
MAX_SUBMISSION = 1000
BATCH_GROWTH = 2  # files that batches may have ahead, for each one that is there
# Supervisors that may die in a row. After the second death, the tasks that were there both times
# run one by one, to find the job that kills its supervisor.
MAX_LOST_SUPERVISORS = 3
RESUME_S = 0.2  # between checks of whether a job has stopped the supervisor
MAX_STOPS = 3  # in a row; then it is killed, as a job stops it again and again
# Many threads in each of many processes compete for the cores. The order of a set of strings
# changes from run to run unless Python's hash seed is fixed, and it might show in an artifact.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
_START = """
import pickle, sys
with open(sys.argv[2], "rb") as file:
    found, excluded = pickle.load(file)
    sys.path[:] = [folder for folder in found if folder in sys.path or folder not in excluded]
    config = pickle.load(file)
from segue.worker.supervisor import main
main(int(sys.argv[1]), config, int(sys.argv[3]), sys.argv[4:])
"""


def count_cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """Child processes, and the tasks that they work on; for one thread.

    The secrets of the jobs are read when it is opened, which may raise what `resolve_secrets` does.

    Parameters
    ----------
    graph : Graph
    artifacts : str
        Where artifacts are written: ``gs://bucket/prefix`` or a folder.
    ledger : str, optional
        The URL of the ledger with the tasks' claims. Without one, nobody else writes artifacts of
        that name.
    processes : int > 0, optional
        The maximum number of children; by default one per processor. They are started when there is
        work for them.
    jobs : collection of str, optional
        The jobs to load once, before children are forked; by default all of the graph. Tasks may
        name others, which are then loaded in each child, unless they have secrets.
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
    requires_gpus : bool
        Whether it is an error if a job needs a GPU and there is none. Otherwise it then runs in
        ordinary children.
    show_in : collection of str, optional
        Folders where a file says what runs, as long as something has been running for a while.
    """

    def __init__(
        self,
        graph: Graph,
        artifacts: str,
        *,
        ledger: str | None = None,
        processes: int | None = None,
        jobs: Collection[str] | None = None,
        setup_s: float = SETUP_S,
        warmup_s: float = WARMUP_S,
        max_growth_gib: float = 1.0,
        max_tasks: int = 100_000,
        scratch: str | None = None,
        requires_gpus: bool = False,
        show_in: Collection[str] = (),
    ) -> None:
        if not hasattr(os, "fork"):
            raise ConfigurationError(
                f"{sys.platform} cannot fork processes; run Segue on Linux, macOS or WSL"
            )
        self.processes = processes or count_cores()
        self._max_batch_files = 0  # until the supervisor has imported the jobs
        self._batch_jobs: frozenset[str] = frozenset()
        self._batch_tasks: set[int] = set()  # that have some of these jobs
        self._is_flushed = False
        self._tasks: dict[int, Task] = {}
        self._results: dict[int, list[Result]] = {}  # of tasks that are not finished
        self.running: tuple[RunningJob, ...] = ()  # what has been running for a while
        self._running_writer = RunningWriter(show_in)
        self._progress_log = ProgressLog()
        self._error: SegueError | None = None
        self._lost_supervisors = 0  # while the same task was unfinished
        self._present: list[int] = []  # tasks that were unfinished when the last one died
        self._suspects: deque[int] = deque()  # tasks that run one by one, before all others
        self._trial: Task | None = None  # one job of the first of them
        self._can_import = False  # a supervisor has imported all modules before
        self._is_closed = False
        loaded = frozenset(graph.jobs if jobs is None else jobs)
        self._secrets = resolve_secrets(graph, loaded)
        try:
            self._scratch = Scratch(scratch)
        except OSError as error:
            raise _explain_scratch_error(error, scratch or tempfile.gettempdir()) from error
        self._config = PoolConfig(
            graph=graph,
            jobs=loaded,
            artifacts=artifacts,
            ledger=ledger,
            saves_numba_cache=numba_cache.VARIABLE not in os.environ,
            folder=self._scratch.path,
            processes=self.processes,
            setup_s=setup_s,
            warmup_s=warmup_s,
            max_growth_gib=max_growth_gib,
            max_tasks=max_tasks,
            requires_gpus=requires_gpus,
        )
        try:
            self._start_supervisor()
        except BaseException:
            self._scratch.remove()
            raise

    def _start_supervisor(self) -> None:
        path = os.path.join(self._config.folder, "config")
        try:
            with open(path, "wb") as file:
                pickle.dump(import_path.list_folders(), file)
                pickle.dump(self._config, file)
            self._output = SupervisorOutput(os.path.join(self._config.folder, "output"))
        except OSError as error:
            raise _explain_scratch_error(error, self._config.folder) from error
        environment = import_path.build_environment({**ENVIRONMENT, **os.environ})
        environment = hide_variables(environment, self._config.graph)
        our_end, their_end = socket.socketpair()
        with their_end:
            try:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-c", _START),
                        *(str(their_end.fileno()), path, str(os.getpid())),
                    ],
                    # The folder also marks all descendants, see kill_users().
                    env={**environment, "TMPDIR": self._config.folder},
                    pass_fds=[their_end.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=self._output.fd,
                    stderr=self._output.fd,
                    start_new_session=True,
                )
            except BaseException:
                our_end.close()
                self._output.close()
                raise
        self._channel = Channel(our_end)
        if self._secrets:
            self._channel.send(Submission(secrets=self._secrets))
        self._has_imported = False
        self._stops = 0
        self._started_s = time.monotonic()

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
        return len(self._tasks)

    @property
    def is_loading(self) -> bool:
        """Whether the jobs' code is still being imported, so that none has begun."""
        return not self._has_imported

    @property
    def batch_files(self) -> int:
        """How many files to submit besides those of ordinary work, so that batches fill.

        It grows with the files that are there for batches: others would only wait here, which
        another worker could process.
        """
        return min(self._max_batch_files, BATCH_GROWTH * len(self._batch_tasks))

    def submit(self, tasks: Sequence[Task]) -> None:
        """Accept tasks; each of their jobs will be reported once."""
        self._check_open()
        for run in {task.run for task in tasks}:
            unknown = [name for name in run if name not in self._config.graph.jobs]
            if not run:
                raise ConfigurationError("a task names no jobs; name at least one")
            if unknown:
                raise ConfigurationError(
                    f"a task names {', '.join(unknown)}, not in the graph; name only its jobs"
                )
            if without := [name for name in run if self._lacks_secrets(name)]:
                raise ConfigurationError(
                    f"a task names {', '.join(without)}, whose secrets this pool has not; name "
                    "those among its jobs when it is opened"
                )
        self._tasks.update((task.task_id, task) for task in tasks)
        self._note_batch_tasks(tasks)
        self._is_flushed = False
        if self._error is None and self._trial is None:
            self._send(tasks)

    def _lacks_secrets(self, job: str) -> bool:
        return bool(self._config.graph.jobs[job].secrets) and job not in self._secrets

    def _note_batch_tasks(self, tasks: Iterable[Task]) -> None:
        jobs = self._batch_jobs
        self._batch_tasks.update(t.task_id for t in tasks if not jobs.isdisjoint(t.run))

    def _check_open(self) -> None:
        if self._is_closed:
            raise ConfigurationError("the pool is closed; open another")

    def _send(self, tasks: Sequence[Task]) -> None:
        for start in range(0, len(tasks), MAX_SUBMISSION):
            self._channel.send(Submission(list(tasks[start : start + MAX_SUBMISSION])))
        if self._is_flushed:  # these come again, to another supervisor
            self._channel.send(Submission(flush=True))

    def flush(self) -> None:
        """Let no batch wait for further tasks: none come, unless some are submitted after all."""
        self._check_open()
        if self._tasks and not self._is_flushed:
            self._channel.send(Submission(flush=True))
            self._is_flushed = True

    def collect(self, timeout_s: float) -> list[Report]:
        """Return reports as soon as there are any, or none after the timeout.

        With nothing pending it returns at once.

        Raises
        ------
        ConfigurationError
            If a job cannot be set up, or reports a wrong setup: no file could be processed.
        Unavailable, DiskFull
            If a job's setup needs a service that is unavailable, or no space is left for temporary
            files.
        """
        self._check_open()
        end_s = time.monotonic() + timeout_s
        while self._tasks and self._error is None:
            left_s = end_s - time.monotonic()
            if reports := self._receive(left_s):
                return reports
            if left_s <= 0:
                break
        if self._error is not None:
            raise self._error
        return []

    def _receive(self, timeout_s: float) -> list[Report]:
        """Wait for a message of the supervisor, and return its reports."""
        import_left_s = self._started_s + IMPORT_S - time.monotonic()
        limit_s = RESUME_S if self._has_imported else min(RESUME_S, import_left_s)
        self._channel.wait(min(timeout_s, limit_s))
        messages = self._channel.receive()
        if not self._has_imported:
            self._show_supervisor_output()
        if messages is None:
            return self._replace_supervisor()
        if messages:
            self._stops = 0
        else:
            self._resume_supervisor()
        if not self._has_imported and not messages and import_left_s < 0:
            self._error = ConfigurationError(
                f"the jobs' modules took longer than {IMPORT_S:g} s to import; make them faster"
            )
        reports: list[Report] = []
        for message in messages:
            self._has_imported = self._can_import = True
            update = decode_update(message)
            self._show(update)
            reports += update.reports
            if update.batch_files is not None:
                self._max_batch_files = update.batch_files
                self._batch_jobs = frozenset(update.batch_jobs)
                self._note_batch_tasks(self._tasks.values())
            if update.error is not None:
                kind, text = update.error.kind, update.error.message
                self._error = build_error(kind, text) if kind else ConfigurationError(text)
        if self._trial is not None:
            reports = [self._finish_trial(report.results) for report in reports if report.finished]
        self._keep(reports)
        return reports

    def _show(self, update: Update) -> None:
        """Show what jobs have printed, and what runs."""
        for line in update.lines:
            show_line(line)
        if update.running is not None:
            self._set_running_jobs(tuple(map(_build_running_job, update.running)))

    def _show_supervisor_output(self, *, is_last: bool = False) -> None:
        """Show what the supervisor, and the modules that it imports, have printed."""
        for line in self._output.read(time.monotonic(), is_last=is_last):
            show_line(line)
        if is_last:
            self._output.close()

    def _end_running_jobs(self, reports: Sequence[Report]) -> None:
        """Forget calls that have a result; the supervisor may tell so once nobody listens."""
        ended = {
            (result.job, self._tasks[report.task_id].media.uri)
            for report in reports
            for result in report.results
        }
        left = [job for job in self.running if ended.isdisjoint((job.job, uri) for uri in job.uris)]
        if len(left) < len(self.running):
            self._set_running_jobs(tuple(left))

    def _set_running_jobs(self, running: tuple[RunningJob, ...]) -> None:
        self.running = running
        self._running_writer.write(running)
        self._progress_log.show(running)

    def _keep(self, reports: Sequence[Report]) -> None:
        """Keep the results of unfinished tasks, in case that their supervisor dies."""
        if self.running:
            self._end_running_jobs(reports)
        for report in reports:
            if report.finished:
                del self._tasks[report.task_id]
                self._batch_tasks.discard(report.task_id)
                self._results.pop(report.task_id, None)
            else:
                self._results.setdefault(report.task_id, []).extend(report.results)
        if self.running and not self._tasks:
            self._set_running_jobs(())
        if self._trial is None and self._suspects:
            self._try_next()

    def _resume_supervisor(self) -> None:
        """Let the supervisor go on if a job has stopped it; then deadlines count again."""
        with contextlib.suppress(ChildProcessError):
            # Not waitid, which Python 3.11 and 3.12 lack on macOS.
            process, status = os.waitpid(self._process.pid, os.WNOHANG | os.WUNTRACED)
            if process and os.WIFSTOPPED(status):
                self._stops += 1
                is_last = self._stops > MAX_STOPS
                self._process.send_signal(signal.SIGKILL if is_last else signal.SIGCONT)
            elif process:  # it has ended, and nobody can ask for its status again
                self._process.returncode = os.waitstatus_to_exitcode(status)

    def _replace_supervisor(self) -> list[Report]:
        """Start a new supervisor after the old one, and so all its children, have died.

        Return the report on the job at fault, if it is known: it was the only one that ran.
        """
        was_working, self._has_imported = self._has_imported, False
        self._set_running_jobs(())
        self._channel.socket.close()
        self._process.kill()
        status = self._wait_for_exit()
        self._show_supervisor_output(is_last=True)
        survivors = [task_id for task_id in self._present if task_id in self._tasks]
        if was_working and not survivors:
            self._lost_supervisors = 0
        self._lost_supervisors += 1
        self._present = list(self._tasks)
        reports = []
        if self._trial is not None and was_working:
            self._lost_supervisors = 0
            self._suspects.clear()
            crash = build_crash(
                f"the process that watches over it {describe_exit(status)}, twice or more, and "
                "nothing else was running: the job, or code that it calls, kills its parent"
            )
            reports = [
                self._finish_trial(
                    (Result(job=self._trial.run[0], state=State.FAILED, error=crash),)
                )
            ]
        elif self._lost_supervisors > 1:
            self._suspects = deque(survivors)
        self._trial = None
        if not self._can_import or self._lost_supervisors > MAX_LOST_SUPERVISORS:
            self._error = ConfigurationError(
                f"the supervisor of the child processes {describe_exit(status)}; "
                "see what it has printed"
            )
            return reports
        try:
            self._start_supervisor()
        except SegueError as error:
            self._error = error
            return reports
        self._keep(reports)
        if self._trial is None:
            self._send_all()
        return reports

    def _send_all(self) -> None:
        self._send(
            [task.continue_after(self._results.get(i, ())) for i, task in self._tasks.items()]
        )

    # Trials: one job of one task runs alone.

    def _try_next(self) -> None:
        """Send the next job of the tasks under suspicion; after the last one, send all tasks."""
        while self._suspects and self._suspects[0] not in self._tasks:
            self._suspects.popleft()
        if not self._suspects:
            self._send_all()
            return
        task_id = self._suspects[0]
        left = self._tasks[task_id].continue_after(self._results.get(task_id, ()))
        self._trial = msgspec.structs.replace(left, run=left.run[:1])
        self._send([self._trial])
        self._channel.send(Submission(flush=True))  # it waits for no others

    def _finish_trial(self, results: Sequence[Result]) -> Report:
        """Return the report on a task of which one job has run alone."""
        assert self._trial is not None
        task_id, self._trial = self._trial.task_id, None
        left = self._tasks[task_id].continue_after([*self._results.get(task_id, ()), *results]).run
        added = list(results)
        for result in results:
            if result.state is State.FAILED:
                below = self._config.graph.find_descendants(result.job)
                added += [build_blocked_result(name, result.job) for name in left if name in below]
            elif result.state is State.QUEUED:  # a transient error: none of the others may run
                error = drop_traceback(result.error)
                added += [replace(result, job=name, error=error) for name in left]
        return Report(
            task_id=task_id, results=tuple(added), finished=len(left) == len(added) - len(results)
        )

    def close(self) -> None:
        """Stop the children after their current files, or after a few seconds."""
        if self._is_closed:
            return
        end_s = time.monotonic() + CLOSE_S
        if self._may_have_children():
            self._channel.send(Submission(close=True))
            while (left_s := end_s - time.monotonic()) > 0:
                self._channel.wait(left_s)
                messages = self._channel.receive()
                if messages is None:
                    break
                for message in messages:
                    self._show(decode_update(message))
        self.kill()

    def kill(self) -> None:
        """Kill the children at once, and drop results that were not collected."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._may_have_children():
            self._process.kill()  # it may still be importing
        self._channel.socket.close()  # the supervisor notices, kills its children, and exits
        self._wait_for_exit()
        self._show_supervisor_output(is_last=True)
        self._set_running_jobs(())
        self._scratch.remove()

    def _may_have_children(self) -> bool:
        """Return whether the supervisor has imported all modules, even if nobody has collected."""
        if not self._has_imported and self._error is None:
            self._has_imported = bool(self._channel.receive())
        return self._has_imported

    def _wait_for_exit(self) -> int:
        """Wait for the supervisor, and kill the children that it has not killed itself."""
        try:
            status = self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:  # perhaps a signal has stopped it
            self._process.kill()
            status = self._process.wait()
        if status != 0:
            kill_users(self._config.folder)
            for name in os.listdir(self._config.folder):
                if name.isdecimal():  # a child's folder is named after its process
                    kill_group(int(name))
                    shutil.rmtree(os.path.join(self._config.folder, name), ignore_errors=True)
        return status


def _explain_scratch_error(error: OSError, folder: str) -> SegueError:
    """Return the Segue error for one that occurred while the temporary folder was filled."""
    text = f"cannot write temporary files in {folder} ({error.strerror})"
    if error.errno in DISK_FULL_ERRNOS:
        return DiskFull(f"{text}; free some space, or set TMPDIR to a folder on another disk")
    return ConfigurationError(f"{text}; set TMPDIR to a folder that this user can write to")


def _build_running_job(call: RunningCall) -> RunningJob:
    since = utc_now() - timedelta(seconds=time.monotonic() - call.since_s)
    return RunningJob(
        job=call.job, uris=call.uris, since=since, fraction=call.fraction, text=escape(call.text)
    )
