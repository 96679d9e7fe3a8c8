"""The child process: receives tasks, runs the jobs of each file, and reports every result."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from segue.errors import ConfigurationError, DamagedInput, Kind, TransientError
from segue.job_progress import use_page
from segue.model.record import State, evolve
from segue.model.transitions import Result, build_blocked_result
from segue.worker import numba_cache
from segue.worker.failure import (
    DISK_FULL_ERRNOS,
    FailureInfo,
    call_with_retry,
    classify_error,
    describe_failure,
    drop_traceback,
    format_job_traceback,
    format_message,
    is_clear,
    shorten,
)
from segue.worker.input_size import estimate_bytes
from segue.worker.job_output import ChildOutput
from segue.worker.line_run import Claims, LineRun, LoadedJob, Stores, load_job
from segue.worker.process import (
    MemoryLimit,
    Timer,
    exit_with_parent,
    find_full_disk,
    set_process_limits,
)
from segue.worker.protocol import (
    Aborted,
    Channel,
    Done,
    Phase,
    Printed,
    Started,
    Task,
    decode_tasks,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segue.worker.protocol import Frame, PoolConfig

MEMORY_CHECK_S = 0.02  # between checks of how much memory the process holds
MAX_ERROR = 10_000  # characters
INPUT_SHARE = 0.5  # of a job's memory, for the inputs of a batch
_NOT_CALLED: Any = object()


class SetupFailed(Exception):
    """A job cannot be set up, or reports a wrong setup: no file can be processed."""

    def __init__(self, message: str, cause: BaseException) -> None:
        super().__init__(message)
        # Of a transient error; a retry might not help, but the configuration is not wrong.
        self.kind = cause.kind if isinstance(cause, TransientError) else None


class ChannelLost(Exception):
    """A job has closed the channel to the supervisor."""


def run_child(config: PoolConfig, channel: Channel, supervisor: int, output: ChildOutput) -> int:
    """Set this process's limits, run tasks until the channel closes, and return the exit code."""
    exit_with_parent(supervisor)
    set_process_limits()
    use_page(output.page)
    folder = os.path.join(config.folder, str(os.getpid()))
    temporary = os.path.join(folder, "tmp")
    try:
        os.makedirs(temporary, exist_ok=True)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            return os.EX_CANTCREAT
        raise
    os.environ["TMPDIR"] = tempfile.tempdir = temporary  # removed when this process has exited
    numba_cache.use_private_cache(folder)
    from segue.adapters.connect import connect_ledger, connect_store

    ledger = config.ledger
    stores = Stores(connect_store, config.artifacts)
    claims = Claims(
        None if ledger is None else lambda: connect_ledger(ledger, config.graph.namespace)
    )
    try:
        Child(config, stores, claims, channel, folder, output).work()
    except ChannelLost:
        with contextlib.suppress(OSError):  # standard error may be closed, too
            print("segue: a job closed its process's file descriptors; it exits", file=sys.stderr)
        return os.EX_IOERR
    return os.EX_OK


class Child:
    """One child process, from its first task to its exit."""

    def __init__(
        self,
        config: PoolConfig,
        stores: Stores,
        claims: Claims,
        channel: Channel,
        folder: str,
        output: ChildOutput,
    ) -> None:
        self._graph = config.graph
        self._stores = stores
        self._claims = claims
        self._channel = channel
        self._output = output
        self._channel_id = os.fstat(channel.socket.fileno()).st_ino
        self._is_connected = True
        self._inbox: deque[list[Task]] = deque()
        self._frames: list[Frame] = []  # to be sent with the start of the next job
        self._folder = folder
        self._file_folders: list[str] = []
        self._memory = MemoryLimit(config.max_growth_gib)
        self._jobs: dict[str, LoadedJob] = {}
        self._process = os.getpid()
        self._tasks_left = config.max_tasks
        self._last_serial = 0
        self._timer = Timer()
        self._memory_checked_s = self._timer.marked_s
        self._is_leaking = False
        self._is_in_doubt = False  # of a failure: its cause may be what this process has left
        self._is_calling = False  # the job's code runs, not Segue's

    def work(self) -> None:
        """Run tasks until the supervisor closes the channel, or this process should be replaced."""
        try:
            while not self._should_exit and (tasks := self._wait_for_tasks()):
                self._run_tasks(tasks)
        except SetupFailed as reason:
            self._frames.append(Aborted(str(reason)[:MAX_ERROR], reason.kind))
            self._send()

    @property
    def _should_exit(self) -> bool:
        return self._is_leaking or self._is_in_doubt or self._tasks_left <= 0

    # The channel.

    def _wait_for_tasks(self) -> list[Task] | None:
        """Return the next message's tasks; None if there will be no more."""
        while True:
            while self._inbox:
                if tasks := self._inbox.popleft():
                    return tasks
            if not self._is_connected:
                return None
            self._channel.wait()
            self._receive()

    def _receive(self) -> None:
        try:
            messages = self._channel.receive()
        except OSError as error:
            raise ChannelLost from error
        if messages is None:
            self._is_connected = False
        else:
            self._inbox.extend(map(decode_tasks, messages))

    def _is_taken_back(self) -> bool:
        """Return whether the supervisor wants no more of this message's tasks to be started."""
        self._receive()
        return not self._is_connected or (bool(self._inbox) and not self._inbox[0])

    def _begin(self, task: Task, job: str, phase: Phase, since_s: float, *, files: int = 1) -> None:
        """Send what is finished, and that a job starts: on its way before the job can do harm."""
        self._frames.append(Started(task.task_id, job, phase, since_s, self._last_serial, files))
        self._send()
        self._output.page.call += 1

    def _send(self) -> None:
        """Send the frames; an empty message says that nothing is running any more."""
        self._exit_if_forked()
        if self._output.end_call():
            self._frames.insert(0, Printed())
        try:
            # If a job has closed the channel, a file of its own may have got the number since.
            if os.fstat(self._channel.socket.fileno()).st_ino != self._channel_id:
                raise ChannelLost
            self._channel.send(self._frames)
            self._channel.drain()
        except OSError as error:
            raise ChannelLost from error
        self._frames.clear()

    # Tasks.

    def _run_tasks(self, tasks: Sequence[Task]) -> None:
        """Run one message's tasks: one after the other, or together if their job takes batches."""
        self._timer.mark()
        first = tasks[0]
        self._last_serial = first.task_id
        job = self._load_jobs(first)[0]
        only = (job.spec.name,)
        if len(tasks) > 1 and job.batch is not None and all(task.here == only for task in tasks):
            self._run_batches(tasks, job)
        else:
            for task in tasks:
                if self._should_exit or (task is not first and self._is_taken_back()):
                    break
                self._last_serial = task.task_id
                self._run_line(task)
        self._send()

    def _run_line(self, task: Task) -> None:
        """Run the jobs of one file."""
        [run] = self._open_runs([task])
        jobs = self._load_jobs(task)
        is_cold = any(job.cold for job in jobs)
        for job in jobs:
            if job.spec.name in run.remaining:
                self._run_job(run, job)
        run.finish()
        self._tasks_left -= 1
        self._check_memory(is_cold=is_cold)

    def _run_batches(self, tasks: Sequence[Task], job: LoadedJob) -> None:
        """Run a job on many files at once, as far as their inputs fit into the memory."""
        left = self._open_runs(tasks)
        while left and not self._should_exit:
            is_cold = job.cold
            ran = self._run_batch(left[: job.batch_size], job)
            for run in ran:
                run.finish()
            left = [run for run in left if run not in ran]
            self._tasks_left -= len(ran)
            self._check_memory(is_cold=is_cold)

    def _open_runs(self, tasks: Sequence[Task]) -> list[LineRun]:
        while len(self._file_folders) < len(tasks):
            path = os.path.join(self._folder, f"file-{len(self._file_folders)}")
            os.makedirs(path, exist_ok=True)
            self._file_folders.append(path)
        return [
            LineRun(task, self._stores, folder, self._claims)
            for task, folder in zip(tasks, self._file_folders, strict=False)
        ]

    def _check_memory(self, *, is_cold: bool) -> None:
        """Note whether this process leaks; what jobs' first calls leave, such as buffers, does not
        count.
        """
        if is_cold:
            self._memory.accept_growth()
        elif self._timer.marked_s - self._memory_checked_s > MEMORY_CHECK_S:
            self._memory_checked_s = self._timer.marked_s
            self._is_leaking = self._memory.is_leaking()

    # Jobs.

    def _load_jobs(self, task: Task) -> list[LoadedJob]:
        """Return the jobs of a task; load those that are not loaded yet."""
        names = task.here or task.run
        for name in names:
            if name not in self._jobs:
                self._jobs[name] = self._load_job(task, name)
                self._timer.mark()
        return [self._jobs[name] for name in names]

    def _load_job(self, task: Task, name: str) -> LoadedJob:
        self._begin(task, name, Phase.SETUP, time.monotonic())
        self._memory.clear_limit()
        try:
            job = call_with_retry(
                lambda: load_job(self._graph, name), attempts=self._graph.jobs[name].attempts
            )
        except BaseException as error:  # a job's code may raise anything
            cause = error if isinstance(error, ConfigurationError) else classify_error(error, 0.0)
            text = f"job {name!r} cannot start: {shorten(format_message(cause))}"
            raise SetupFailed(text, cause) from error
        self._memory.reset_baseline()
        return job

    def _run_batch(self, runs: Sequence[LineRun], job: LoadedJob) -> list[LineRun]:
        """Run a job on some files, or on the first of them that fit, and return these.

        What cannot be loaded runs alone, and so does each file if the call for all of them fails.
        """
        self._begin_batch(runs, job)
        self._memory.set_limit(job.spec.resources.memory_gib)
        batch, inputs, alone = _load_inputs(runs, job)
        if len(batch) < 2:
            batch, alone = [], [*batch, *alone]
        elif len(batch) < len(runs):
            self._begin_batch(batch, job)
        values = _call_batch(job, inputs) if batch else []
        del inputs  # before the results are written
        if batch:
            seconds, cpu_seconds = (total / len(batch) for total in self._timer.lap())
            for run, value in zip(batch, values, strict=True):
                self._run_job(run, job, value, seconds, cpu_seconds)
        for run in alone:
            self._run_job(run, job)
        return [*batch, *alone]

    def _begin_batch(self, runs: Sequence[LineRun], job: LoadedJob) -> None:
        self._last_serial = runs[-1].task.task_id
        phase, since_s = _find_phase(job), self._timer.marked_s
        self._begin(runs[0].task, job.spec.name, phase, since_s, files=len(runs))

    def _run_job(
        self,
        run: LineRun,
        job: LoadedJob,
        value: Any = _NOT_CALLED,
        seconds: float = 0.0,
        cpu_seconds: float = 0.0,
    ) -> None:
        """Run a job on one file, or only write a value that a batch returned; report the result."""
        task, name = run.task, job.spec.name
        self._begin(task, name, _find_phase(job), self._timer.marked_s)
        self._memory.set_limit(job.spec.resources.memory_gib)
        self._is_calling = False
        info: FailureInfo | None = None
        artifacts: Mapping[str, str] = {}
        damaged = None
        try:
            artifacts = call_with_retry(
                lambda: self._attempt(run, job, value),
                attempts=job.spec.attempts,
                # The next attempt begins after the pause, and has the whole timeout.
                before_pause=lambda pause_s: self._begin(
                    task, name, Phase.CALL, time.monotonic() + pause_s
                ),
            )
        except ChannelLost:
            raise
        except ConfigurationError as error:
            raise SetupFailed(f"job {name!r}: {format_message(error)}", error) from error
        except BaseException as error:  # a job may raise anything
            info = self._describe_failure(error, job)
            if isinstance(error, ImportError) and info.failure.kind == Kind.JOB_RAISED:
                # No file would fare better, unless this one has taken the memory or the disk.
                raise SetupFailed(f"job {name!r}: {info.failure.message}", error) from error
            damaged = error.job if isinstance(error, DamagedInput) else None
        wall_s, cpu_s = self._timer.lap()
        result = Result(
            job=name,
            state=info.state if info is not None else State.DONE,
            artifacts=artifacts,
            error=info.failure if info is not None else None,
            damaged=damaged,
            seconds=seconds + wall_s,
            cpu_seconds=cpu_seconds + cpu_s,
        )
        in_doubt = info is not None and info.in_doubt
        self._frames.append(Done(task.task_id, result, job.cold, in_doubt))
        job.cold = False
        del run.remaining[name]
        if in_doubt:  # the supervisor decides, once this process and its files are gone
            self._is_in_doubt = True
            run.remaining.clear()
        elif info is not None:
            self._report_below(run, job, info)

    def _describe_failure(self, error: BaseException, job: LoadedJob) -> FailureInfo:
        self._exit_if_forked()
        if os.environ.get("SEGUE_DEBUG") and not is_clear(error):
            sys.stderr.write(format_job_traceback(error))
        info = describe_failure(error, job.spec.resources.memory_gib)
        if info.state is State.FAILED and find_full_disk([self._folder]):  # whatever the error says
            failure = evolve(info.failure, kind=Kind.DISK_FULL)
            return info._replace(failure=failure, state=State.QUEUED, in_doubt=True)
        if info.failure.kind == Kind.JOB_RAISED and not self._is_calling:
            return info._replace(in_doubt=True)  # an earlier job may have changed a module
        return info

    def _attempt(self, run: LineRun, job: LoadedJob, value: Any) -> dict[str, str]:
        if value is _NOT_CALLED:
            inputs = run.load_inputs(job)
            self._is_calling = True
            try:
                value = job.call(inputs)
            except Exception:
                run.check_source(job)  # what fails on half a file says nothing about the whole one
                raise
            self._is_calling = False
            self._exit_if_forked()
        if isinstance(value, Exception):  # in a batch, of this file alone
            self._is_calling = True  # it is of the job's code, although that has returned
            raise value
        return run.write(job, value)

    def _report_below(self, run: LineRun, job: LoadedJob, info: FailureInfo) -> None:
        """Report the jobs that cannot run without one that did not succeed."""
        for name in [n for n in run.remaining if info.aborts_line or n in job.below]:
            del run.remaining[name]
            result = Result(job=name, state=State.QUEUED, error=drop_traceback(info.failure))
            if info.state is not State.QUEUED:
                inherited = State.BLOCKED if info.state is State.FAILED else info.state
                result = build_blocked_result(name, job.spec.name, inherited)
            result = replace(result, seconds=0.0, cpu_seconds=0.0)
            self._frames.append(Done(run.task.task_id, result))

    def _exit_if_forked(self) -> None:
        """Exit if this is a copy of the process: a job has forked, and the copy returned, too."""
        if os.getpid() != self._process:
            os._exit(0)


def _call_batch(job: LoadedJob, inputs: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
    """Call a job with many files; if that fails, print why: it is to be called with each alone."""
    assert job.batch is not None
    count = len(inputs)  # the job may change the list
    values: Any
    try:
        values = job.batch(inputs)
    except BaseException as error:  # noqa: BLE001 - raised again by the file that causes it
        reason = f"{type(error).__name__}: {shorten(format_message(error))}"
    else:
        if isinstance(values, list | tuple) and len(values) == count:
            return values
        reason = "batch() did not return one value per file"
    print(f"segue: each of {count} files runs alone, as {reason}", file=sys.stderr)
    return [_NOT_CALLED] * count


def _load_inputs(
    runs: Sequence[LineRun], job: LoadedJob
) -> tuple[list[LineRun], list[dict[str, Any]], list[LineRun]]:
    """Load the inputs of the first of some files, as far as they fit into a job's memory.

    Return these files, their inputs, and the files before the last of them that cannot be loaded.
    """
    limit_bytes = INPUT_SHARE * job.spec.resources.memory_gib * 2**30
    batch: list[LineRun] = []
    inputs: list[dict[str, Any]] = []
    alone: list[LineRun] = []
    for run in runs:
        try:
            loaded = run.load_inputs(job)
            limit_bytes -= sum(map(estimate_bytes, loaded.values()))
        except BaseException as error:  # noqa: BLE001 - raised again when it runs alone
            if batch and isinstance(error, MemoryError):
                run.finish()
                break
            alone.append(run)
            continue
        if batch and limit_bytes < 0:
            run.finish()  # it is loaded again for the next batch
            break
        batch.append(run)
        inputs.append(loaded)
    return batch, inputs, alone


def _find_phase(job: LoadedJob) -> Phase:
    return Phase.COLD if job.cold else Phase.CALL
