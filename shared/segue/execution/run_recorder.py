"""Keeps the record of a run up to date while it runs.

Its writer is the process that starts the run, or, of a backfill, the pipeline. If that is killed,
the record stays as it was last written, and its ``updated_at`` tells that nobody is at work any
more.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec

from segue.adapters.connect import connect_store
from segue.clock import Clock, utc_now
from segue.errors import RunCancelled, SegueError, TransientError
from segue.log import Action, log_event
from segue.model.media_file import format_name
from segue.model.outcome import RunTotals
from segue.model.run import (
    MAX_TEXT,
    UPDATE_S,
    RunCounts,
    RunRecord,
    RunState,
    load_run,
    save_run,
)

OBSERVE_S = 0.5  # how often somebody who wants to know sees the counts so far


class RunRecorder:
    """Writes the record of a run at its start, every few seconds, and at its end.

    A context manager around the run: the run has failed if an exception ends it, was cancelled if
    that is ``RunCancelled``, and is interrupted if it is no ``Exception``, such as a
    ``KeyboardInterrupt``. At the end of what went well, set ``counts``; without them the run goes
    on elsewhere, and its record says that it is running.

    Parameters
    ----------
    artifacts : str
        The location of the artifacts.
    run : RunRecord
        The record at the start. If it names a runner, the run is elsewhere: nothing is known of it
        until it ends, and it starts even if its launcher may not write the record.
    read_counts : callable
        Reads the counts so far.
    is_optional : bool
        Whether to go on if the record of the start cannot be written.
    observe : callable, optional
        Called with the record whenever it has changed, written or not, and every half second with
        the counts so far.
    """

    def __init__(
        self,
        artifacts: str,
        run: RunRecord,
        read_counts: Callable[[], RunCounts],
        *,
        is_optional: bool = False,
        observe: Callable[[RunRecord], None] | None = None,
        update_s: float = UPDATE_S,
        clock: Clock = utc_now,
    ) -> None:
        self.counts: RunCounts | None = None
        self._store = connect_store(artifacts)
        self._run = run
        self._read_counts = read_counts
        self._is_optional = is_optional
        self._observe = observe
        self._update_s = update_s
        self._clock = clock
        self._ended = threading.Event()
        self._has_warned = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Write the record of the start.

        Raises
        ------
        SegueError
            If that fails, and the run is on this machine: no artifact could be written, either.
        """
        if self._run.runner is not None:
            self._write()
            return self
        if self._is_optional:
            self._write()
            self._start_updates()
            return self
        try:
            save_run(self._store, self._change(updated_at=self._clock()))
        except BaseException:
            self._store.close()
            raise
        self._start_updates()
        return self

    def _start_updates(self) -> None:
        self._thread = threading.Thread(target=self._update_repeatedly, daemon=True)
        self._thread.start()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Write the record of the end."""
        self._ended.set()
        with contextlib.closing(self._store):
            if self._thread is not None:
                self._thread.join()
            changes = self._describe_end(error)
            if changes is not None and self._was_cancelled_elsewhere():
                self._write(counts=changes["counts"])
            elif changes is not None:
                self._write(ended_at=self._clock(), **changes)

    def record_job(self, name: str) -> None:
        """Record the name of the job by which a runner elsewhere knows the run."""
        self._write(runner_job=name)

    def _describe_end(self, error: BaseException | None) -> dict[str, Any] | None:
        """Return what is to be written at the end; None if the run goes on elsewhere."""
        if error is None:
            if self.counts is None:
                return None
            return {"state": RunState.DONE, "counts": self.counts}
        counts = self._read_counts()
        if not isinstance(error, Exception):
            if self._run.runner is not None:
                return None
            return {"state": RunState.INTERRUPTED, "counts": counts}
        if isinstance(error, RunCancelled):
            return {"state": RunState.CANCELLED, "counts": counts, "cancelled_by": error.by}
        text = format_name(str(error) or type(error).__name__)[:MAX_TEXT]
        return {"state": RunState.FAILED, "counts": counts, "error": text}

    def _was_cancelled_elsewhere(self) -> bool:
        """Whether ``segue cancel`` has ended a run on another runner, and said so."""
        if self._run.runner is None:
            return False
        try:
            found = load_run(self._store, self._run.id)
        except SegueError:
            return False
        if found.state is not RunState.CANCELLED:
            return False
        self._run = found
        return True

    def _update_repeatedly(self) -> None:
        looks_s = self._update_s if self._observe is None else min(OBSERVE_S, self._update_s)
        written_s = time.monotonic()
        while not self._ended.wait(looks_s):
            if time.monotonic() - written_s >= self._update_s:
                written_s = time.monotonic()
                self._write(counts=self._read_counts())
            elif self._observe is not None:
                self._observe(self._change(counts=self._read_counts()))

    def _change(self, **changes: Any) -> RunRecord:
        self._run = msgspec.structs.replace(self._run, **changes)
        return self._run

    def _write(self, **changes: Any) -> None:
        """Replace the record; a failure is logged, as the run must not fail because of it."""
        if self._run.runner is None:
            changes["updated_at"] = changes.get("ended_at") or self._clock()
        try:
            save_run(self._store, self._change(**changes), replace=True)
        except SegueError as error:
            if not self._has_warned or self._ended.is_set():
                is_transient = isinstance(error, TransientError)
                action = Action.UNAVAILABLE if is_transient else Action.MISCONFIGURED
                log_event(action, severity="WARNING", run=self._run.id, error=str(error))
            self._has_warned = True
        else:
            self._has_warned = False
        if self._observe is not None:
            self._observe(self._run)


def count(totals: RunTotals) -> RunCounts:
    """Return the counts of a record."""
    return RunCounts(
        files=totals.files,
        failed_files=totals.failed_files,
        jobs={job: {str(s): n for s, n in found.items()} for job, found in totals.jobs.items()},
        left_out=dict(totals.left_out),
        **msgspec.structs.asdict(totals.passed_over),
        not_started=totals.not_started,
        tried_files=totals.tried_files,
        newly_failed_files=totals.newly_failed_files,
        failures={job: dict(kinds) for job, kinds in totals.failures.items()},
        cpu_seconds={job: round(seconds, 3) for job, seconds in totals.cpu_seconds.items()},
    )
