"""The child process: receives orders, runs the jobs of each file, and reports every result."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from segue.errors import ConfigurationError
from segue.model.outcome import build_blocked_result
from segue.model.record import State
from segue.worker import numba_cache
from segue.worker.failure import FailureInfo, describe_failure, format_job_traceback
from segue.worker.limits import MemoryLimit, exit_with_parent, set_process_limits
from segue.worker.line_run import LineRun, Stores
from segue.worker.loaded_job import LoadedJobs, SetupFailed
from segue.worker.parent_connection import ChannelLost, ParentConnection
from segue.worker.protocol import Aborted, Done, Exiting, Returned
from segue.worker.retry import call_with_retry
from segue.worker.shared_state import Phase, SharedState
from segue.worker.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from segue.worker.child_config import ChildConfig
    from segue.worker.loaded_job import LoadedJob
    from segue.worker.protocol import Order

FLUSH_S = 0.05
MEMORY_CHECK_S = 0.02  # between checks of how much memory the process holds
_NOT_CALLED: Any = object()


class Child:
    """One child process, from its first order to its exit."""

    def __init__(
        self,
        config: ChildConfig,
        stores: Stores,
        connection: ParentConnection,
        shared_state: SharedState,
        folder: str,
    ) -> None:
        self._stores = stores
        self._connection = connection
        self._shared_state = shared_state
        self._folder = folder
        self._file_folders: list[str] = []
        self._memory = MemoryLimit(config.max_growth_gib)
        self._jobs = LoadedJobs(config.graph, shared_state, connection, self._memory)
        self._process = os.getpid()
        self._orders_left = config.max_tasks
        self._should_exit = False
        self._timer = Timer()
        self._flushed_s = self._memory_checked_s = self._timer.marked_s

    def work(self) -> None:
        """Run orders until the parent closes the channel, or this process should be replaced."""
        try:
            for orders in self._connection.receive_orders():
                self._run_orders(orders)
                if self._should_exit:
                    self._connection.send(Exiting())
                    break
        except SetupFailed as reason:
            self._connection.send(Aborted(str(reason), reason.transient))
        self._flush()
        self._stores.close()

    # Orders.

    def _run_orders(self, orders: Sequence[Order]) -> None:
        self._timer.mark()
        for is_batchable, group in itertools.groupby(orders, key=self._is_batchable):
            if is_batchable:
                self._run_together(list(group))
            else:
                for order in group:
                    self._run_alone(order)
        self._flush()

    def _is_batchable(self, order: Order) -> bool:
        return not order.alone and any(s.batch is not None for s in self._jobs.load_all(order))

    def _run_alone(self, order: Order) -> None:
        """Run the line of one file."""
        if not self._shared_state.take(order.serial):
            self._connection.send(Returned([order.serial]))
            return
        run = LineRun(order, self._stores, self._open_folder(0))
        for job in self._jobs.load_all(order):
            if job.name in run.remaining:
                self._run_job(run, job)
        self._finish([run])

    def _run_together(self, orders: Sequence[Order]) -> None:
        """Run many files level by level, so that batch jobs get many files per call."""
        if not self._shared_state.take(orders[-1].serial):
            self._connection.send(Returned([order.serial for order in orders]))
            return
        jobs = {job.name: job for order in orders for job in self._jobs.load_all(order)}
        max_size = max(job.batch_size for job in jobs.values() if job.batch is not None)
        for start in range(0, len(orders), max_size):
            runs = [
                LineRun(order, self._stores, self._open_folder(number))
                for number, order in enumerate(orders[start : start + max_size])
            ]
            for job in self._jobs.sort_by_level({n for run in runs for n in run.remaining}):
                self._run_level([run for run in runs if job.name in run.remaining], job)
            self._finish(runs)

    def _run_level(self, runs: Sequence[LineRun], job: LoadedJob) -> None:
        if job.batch is None:
            for run in runs:
                self._run_job(run, job)
            return
        for start in range(0, len(runs), job.batch_size):
            self._run_batch(runs[start : start + job.batch_size], job)

    def _open_folder(self, number: int) -> str:
        """Return the folder for one of the files of a batch; create it the first time."""
        if number == len(self._file_folders):
            path = os.path.join(self._folder, f"file-{number}")
            os.makedirs(path)
            self._file_folders.append(path)
        return self._file_folders[number]

    def _finish(self, runs: Iterable[LineRun]) -> None:
        for run in runs:
            run.finish()
            self._orders_left -= 1
        if self._timer.marked_s - self._memory_checked_s > MEMORY_CHECK_S:
            self._memory_checked_s = self._timer.marked_s
            self._should_exit = self._should_exit or self._memory.is_leaking()
        self._should_exit = self._should_exit or self._orders_left <= 0

    # Jobs.

    def _run_batch(self, runs: Sequence[LineRun], job: LoadedJob) -> None:
        """Call a job with many files; if that fails, call it with each file alone."""
        assert job.batch is not None
        self._begin(runs[0], job, files=len(runs))
        self._memory.set_limit(job.memory_gib)
        try:
            inputs = [run.load_inputs(job) for run in runs]
            values = job.batch(inputs)
        except (Exception, SystemExit):  # noqa: BLE001 - raised again below, by the file that causes it
            values = None
        self._exit_if_forked()
        if not isinstance(values, list | tuple) or len(values) != len(runs):
            values = [_NOT_CALLED] * len(runs)
        seconds, cpu_seconds = (total / len(runs) for total in self._timer.lap())
        for run, value in zip(runs, values, strict=True):
            self._run_job(run, job, value, seconds, cpu_seconds)

    def _run_job(
        self,
        run: LineRun,
        job: LoadedJob,
        value: Any = _NOT_CALLED,
        seconds: float = 0.0,
        cpu_seconds: float = 0.0,
    ) -> None:
        """Run a job on one file, or only write a value that a batch returned; report the result."""
        self._begin(run, job)
        self._memory.set_limit(job.memory_gib)
        info: FailureInfo | None = None
        try:
            uri, checksum = call_with_retry(
                lambda: self._attempt(run, job, value),
                attempts=job.spec.attempts,
                before_attempt=lambda: self._restart_clock(run, job),
                before_wait=self._shared_state.clear_progress,
            )
        except ConfigurationError as error:
            raise SetupFailed(f"job {job.name!r}: {error}", transient=False) from error
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a job may raise anything
            self._exit_if_forked()
            if os.environ.get("SEGUE_DEBUG"):
                sys.stderr.write(format_job_traceback(error))
            info = describe_failure(error, job.memory_gib)
        wall_s, cpu_s = self._timer.lap()
        done = Done(
            run.order.serial,
            job.name,
            State.DONE,
            seconds + wall_s,
            cpu_seconds + cpu_s,
            job.cold,
        )
        job.cold = False
        del run.remaining[job.name]
        if info is None:
            done.artifact, done.checksum = uri, checksum
            self._connection.send(done)
        else:
            self._report_failure(run, job, done, info)
        if self._timer.marked_s - self._flushed_s > FLUSH_S:
            self._flush()

    def _attempt(self, run: LineRun, job: LoadedJob, value: Any) -> tuple[str, str]:
        if value is _NOT_CALLED:
            value = job.call(run.load_inputs(job))
            self._exit_if_forked()
        return run.write(job, value)

    def _report_failure(self, run: LineRun, job: LoadedJob, done: Done, info: FailureInfo) -> None:
        """Report a job that did not succeed, and the jobs that cannot run without it."""
        done.error = info.failure
        done.state = State.FAILED if info.permanent else State.QUEUED
        self._connection.send(done)
        for name in [n for n in run.remaining if info.aborts_line or n in job.below]:
            del run.remaining[name]
            below = Done(run.order.serial, name, State.QUEUED, error=info.failure)
            if info.permanent:
                result = build_blocked_result(name, job.name)
                below.state, below.error = result.state, result.error
            self._connection.send(below)

    def _begin(self, run: LineRun, job: LoadedJob, files: int = 1) -> None:
        phase = Phase.COLD if job.cold else Phase.CALL
        self._shared_state.set_progress(
            run.order.serial, job.number, phase, self._timer.marked_s, files
        )

    def _restart_clock(self, run: LineRun, job: LoadedJob) -> None:
        """Give the next attempt the job's whole timeout."""
        self._shared_state.set_progress(run.order.serial, job.number, Phase.CALL, time.monotonic())

    def _exit_if_forked(self) -> None:
        """Exit if this is a copy of the process: a job has forked, and the copy returned, too."""
        if os.getpid() != self._process:
            os._exit(0)

    def _flush(self) -> None:
        self._connection.flush()
        self._timer.mark()
        self._flushed_s = self._timer.marked_s


def run_child(config: ChildConfig, number: int, *, channel: int, memory: int, parent: int) -> None:
    """Turn this process into a child: set its limits, and run orders until the channel closes."""
    exit_with_parent(parent)
    set_process_limits()
    folder = os.path.join(config.folder, str(number))
    temporary = os.path.join(folder, "tmp")
    os.makedirs(temporary)
    os.environ["TMPDIR"] = tempfile.tempdir = temporary  # removed with the pool's folder
    numba_cache.copy_parent_cache(folder)
    from segue.adapters.connect import connect_store

    sock = socket.socket(fileno=channel)
    shared_state = SharedState(memory)
    os.close(memory)
    stores = Stores(connect_store, config.artifacts)
    connection = ParentConnection(sock, shared_state)
    try:
        Child(config, stores, connection, shared_state, folder).work()
        sock.close()
    except ChannelLost as lost:
        if lost.by_job:
            print("segue: a job closed its process's file descriptors; it exits", file=sys.stderr)
        sys.exit(os.EX_IOERR)
