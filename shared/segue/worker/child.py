"""The child's side: take orders, run each file's line, tell of each job, survive what can be."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from segue.errors import ConfigurationError
from segue.model.outcome import blocked
from segue.model.record import State
from segue.worker import numba_cache as compiled
from segue.worker.failure import Trouble, own_traceback, trouble
from segue.worker.limits import Memory, be_expendable, end_with
from segue.worker.line_run import LineRun, Stores
from segue.worker.loaded_job import Hopeless, Steps
from segue.worker.parent_connection import ChannelLost, Uplink
from segue.worker.protocol import Broken, Done, Leaving, Returned
from segue.worker.retry import patiently
from segue.worker.shared_state import Cell, Phase
from segue.worker.timer import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from segue.worker.child_config import Upbringing
    from segue.worker.loaded_job import Step
    from segue.worker.protocol import Order

FLUSH_S = 0.05
LOOK_S = 0.02  # between looks at how much memory the process holds
_TO_CALL: Any = object()


class Child:
    """One child process, from its first order to its end."""

    def __init__(
        self, upbringing: Upbringing, stores: Stores, uplink: Uplink, cell: Cell, folder: str
    ) -> None:
        self._stores = stores
        self._uplink = uplink
        self._cell = cell
        self._folder = folder
        self._file_folders: list[str] = []
        self._memory = Memory(upbringing.max_growth_gib)
        self._steps = Steps(upbringing.graph, cell, uplink, self._memory)
        self._process = os.getpid()
        self._orders_left = upbringing.max_tasks
        self._is_tired = False
        self._watch = Stopwatch()
        self._flushed_s = self._looked_s = self._watch.marked_s

    def work(self) -> None:
        """Work until the parent hangs up, or until this process is better replaced."""
        try:
            for orders in self._uplink.messages():
                self._message(orders)
                if self._is_tired:
                    self._uplink.tell(Leaving())
                    break
        except Hopeless as reason:
            self._uplink.tell(Broken(str(reason), reason.transient))
        self._flush()
        self._stores.close()

    # Orders.

    def _message(self, orders: Sequence[Order]) -> None:
        self._watch.mark()
        for together, some in itertools.groupby(orders, key=self._goes_with_others):
            if together:
                self._together(list(some))
            else:
                for order in some:
                    self._one(order)
        self._flush()

    def _goes_with_others(self, order: Order) -> bool:
        return not order.alone and any(s.batch is not None for s in self._steps.of(order))

    def _one(self, order: Order) -> None:
        """Run the line of one file."""
        if not self._cell.take(order.serial):
            self._uplink.tell(Returned([order.serial]))
            return
        run = LineRun(order, self._stores, self._file_folder(0))
        for step in self._steps.of(order):
            if step.name in run.left:
                self._job(run, step)
        self._end([run])

    def _together(self, orders: Sequence[Order]) -> None:
        """Run the lines of many files level by level, so that jobs can take many at once."""
        if not self._cell.take(orders[-1].serial):
            self._uplink.tell(Returned([order.serial for order in orders]))
            return
        steps = {step.name: step for order in orders for step in self._steps.of(order)}
        most = max(step.batch_size for step in steps.values() if step.batch is not None)
        for start in range(0, len(orders), most):
            runs = [
                LineRun(order, self._stores, self._file_folder(number))
                for number, order in enumerate(orders[start : start + most])
            ]
            for step in self._steps.level_by_level({n for run in runs for n in run.left}):
                self._level([run for run in runs if step.name in run.left], step)
            self._end(runs)

    def _level(self, runs: Sequence[LineRun], step: Step) -> None:
        if step.batch is None:
            for run in runs:
                self._job(run, step)
            return
        for start in range(0, len(runs), step.batch_size):
            self._batch(runs[start : start + step.batch_size], step)

    def _file_folder(self, number: int) -> str:
        """The folder for one of the files that are worked on together."""
        if number == len(self._file_folders):
            path = os.path.join(self._folder, f"file-{number}")
            os.makedirs(path)
            self._file_folders.append(path)
        return self._file_folders[number]

    def _end(self, runs: Iterable[LineRun]) -> None:
        for run in runs:
            run.finish()
            self._orders_left -= 1
        if self._watch.marked_s - self._looked_s > LOOK_S:
            self._looked_s = self._watch.marked_s
            self._is_tired = self._is_tired or self._memory.leaks()
        self._is_tired = self._is_tired or self._orders_left <= 0

    # Jobs.

    def _batch(self, runs: Sequence[LineRun], step: Step) -> None:
        """Call a job with many files; where that does not go well, each goes by itself."""
        assert step.batch is not None
        self._enter(runs[0], step, files=len(runs))
        self._memory.bound(step.memory_gib)
        try:
            inputs = [run.inputs(step) for run in runs]
            values = step.batch(inputs)
        except (Exception, SystemExit):  # noqa: BLE001 - met again below, by the file it is about
            values = None
        self._check_process()
        if not isinstance(values, list | tuple) or len(values) != len(runs):
            values = [_TO_CALL] * len(runs)
        seconds, cpu_seconds = (total / len(runs) for total in self._watch.lap())
        for run, value in zip(runs, values, strict=True):
            self._job(run, step, value, seconds, cpu_seconds)

    def _job(
        self,
        run: LineRun,
        step: Step,
        value: Any = _TO_CALL,
        seconds: float = 0.0,
        cpu_seconds: float = 0.0,
    ) -> None:
        """Run a job for one file, or only write a value that is known, and tell what came of it."""
        self._enter(run, step)
        self._memory.bound(step.memory_gib)
        why: Trouble | None = None
        try:
            uri, checksum = patiently(
                lambda: self._attempt(run, step, value),
                attempts=step.job.attempts,
                before=lambda: self._again(run, step),
                waiting=self._cell.leave,
            )
        except ConfigurationError as error:
            raise Hopeless(f"job {step.name!r}: {error}", transient=False) from error
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a job may raise anything
            self._check_process()
            if os.environ.get("SEGUE_DEBUG"):
                sys.stderr.write(own_traceback(error))
            why = trouble(error, step.memory_gib)
        wall_s, cpu_s = self._watch.lap()
        done = Done(
            run.order.serial,
            step.name,
            State.DONE,
            seconds + wall_s,
            cpu_seconds + cpu_s,
            step.cold,
        )
        step.cold = False
        del run.left[step.name]
        if why is None:
            done.artifact, done.checksum = uri, checksum
            self._uplink.tell(done)
        else:
            self._failed(run, step, done, why)
        if self._watch.marked_s - self._flushed_s > FLUSH_S:
            self._flush()

    def _attempt(self, run: LineRun, step: Step, value: Any) -> tuple[str, str]:
        if value is _TO_CALL:
            value = step.call(run.inputs(step))
            self._check_process()
        return run.write(step, value)

    def _failed(self, run: LineRun, step: Step, done: Done, why: Trouble) -> None:
        """Tell of a job that did not succeed, and of those that cannot run without it."""
        done.error = why.failure
        done.state = State.FAILED if why.permanent else State.QUEUED
        self._uplink.tell(done)
        for name in [n for n in run.left if why.in_vain or n in step.below]:
            del run.left[name]
            below = Done(run.order.serial, name, State.QUEUED, error=why.failure)
            if why.permanent:
                result = blocked(name, step.name)
                below.state, below.error = result.state, result.error
            self._uplink.tell(below)

    def _enter(self, run: LineRun, step: Step, files: int = 1) -> None:
        phase = Phase.COLD if step.cold else Phase.CALL
        self._cell.enter(run.order.serial, step.number, phase, self._watch.marked_s, files)

    def _again(self, run: LineRun, step: Step) -> None:
        """Give a further attempt all the time of the job."""
        self._cell.enter(run.order.serial, step.number, Phase.CALL, time.monotonic())

    def _check_process(self) -> None:
        """End a copy of this process that a job forked, and that came back from the job's code."""
        if os.getpid() != self._process:
            os._exit(0)

    def _flush(self) -> None:
        self._uplink.flush()
        self._watch.mark()
        self._flushed_s = self._watch.marked_s


def be_child(upbringing: Upbringing, number: int, *, channel: int, cell: int, parent: int) -> None:
    """Become a child: bound this process, and work until the parent hangs up."""
    end_with(parent)
    be_expendable()
    folder = os.path.join(upbringing.folder, str(number))
    temporary = os.path.join(folder, "tmp")
    os.makedirs(temporary)
    os.environ["TMPDIR"] = tempfile.tempdir = temporary  # goes when the pool goes
    compiled.fork_own(folder)
    from segue.adapters.connect import connect_store

    connection = socket.socket(fileno=channel)
    memory = Cell(cell)
    os.close(cell)
    stores = Stores(connect_store, upbringing.artifacts)
    uplink = Uplink(connection, memory)
    try:
        Child(upbringing, stores, uplink, memory, folder).work()
        connection.close()
    except ChannelLost as lost:
        if lost.by_job:
            print("segue: a job closed the handles of its process, which ends", file=sys.stderr)
        sys.exit(os.EX_IOERR)
