"""Failures: what the ledger keeps of an exception or a crash, and which errors are retried.

A job may raise anything, such as a KeyboardInterrupt, or an exception whose own code fails.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, TypeVar

from segue.backoff import Backoff, retry
from segue.errors import (
    BadOutput,
    DamagedInput,
    DiskFull,
    JobCrashed,
    JobKilled,
    JobRaised,
    Kind,
    NotAccepted,
    NotApplicable,
    OutOfMemory,
    PermanentError,
    Reason,
    Superseded,
    TransientError,
    Unavailable,
)
from segue.extras import find_extra, format_hint
from segue.model.record import Failure, State, evolve, join_types
from segue.worker.secrets import mask

BACKOFF = Backoff(0.5, 10.0)
MAX_CHARACTERS = 500
MAX_FRAMES = 3
MAX_TRACEBACK = 4_000  # characters
CUT = "\n[…]\n"
MAX_CAUSES = 10
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
# How the GNU C library says that a shared library does not fit into the memory that is left.
UNMAPPED = ("failed to map segment from shared object", "cannot map zero-fill pages")
# The signals by which others end a process: the kernel when memory runs out, or a daemon before it.
OTHERS_SIGNALS = (signal.SIGKILL, signal.SIGTERM)
# Frames of these files come before the job's own code in a traceback.
RUNNER_FILES = tuple(
    os.path.join(os.sep, "segue", *path.split("/"))
    for path in (
        "backoff.py",
        "model/job_code.py",
        "worker/child.py",
        "worker/failure.py",
        "worker/line_run.py",
    )
)
# How a line of a traceback begins if it is in this package, and what is kept of that.
OWN_FRAME = f'File "{os.path.dirname(os.path.dirname(__file__))}{os.sep}'
OWN_FRAME_KEPT = f'File "segue{os.sep}'

T = TypeVar("T")


class FailureInfo(NamedTuple):
    """The consequences of an exception for its job, and for the rest of the line."""

    failure: Failure
    state: State  # FAILED, QUEUED if a retry may succeed, or NOT_APPLICABLE, which is no failure
    aborts_line: bool  # no other job of the file can succeed now
    in_doubt: bool  # what else runs on this machine may have caused it


def describe_failure(error: BaseException, memory_gib: float) -> FailureInfo:
    """Return what an exception means for its job and the line."""
    if isinstance(error, NotApplicable):
        return _describe_not_applicable(error)
    known = classify_error(error, memory_gib)
    # Of errors that are raised on purpose, and of a full disk, the message says everything.
    is_unexpected = known is not error and not isinstance(known, DiskFull)
    return FailureInfo(
        failure=Failure(
            kind=known.kind,
            type=type(error).__name__,
            message=shorten(format_message(known)),
            traceback=_build_traceback(error) if is_unexpected else None,
        ),
        state=State.FAILED if isinstance(known, PermanentError) else State.QUEUED,
        aborts_line=isinstance(known, Superseded | DiskFull),
        in_doubt=isinstance(known, DiskFull | JobKilled),
    )


def _describe_not_applicable(error: NotApplicable) -> FailureInfo:
    kind, name = Reason.DECLINED, type(error).__name__
    # What the job accepts may change; without types, it would be run again and again.
    if isinstance(error, NotAccepted) and error.types:
        kind, name = error.kind, join_types(error.types)
    message = shorten(format_message(error)) or "the job is not for this file"
    failure = Failure(kind=kind, type=name, message=message)
    return FailureInfo(failure, State.NOT_APPLICABLE, aborts_line=False, in_doubt=False)


def drop_traceback(failure: Failure | None) -> Failure | None:
    """Return a failure without its traceback, for the jobs that it affects, too."""
    return failure and evolve(failure, traceback=None)


def format_message(error: BaseException) -> str:
    """Return an exception's message as valid Unicode, even if its own code fails."""
    try:
        return mask(str(error).encode("utf-8", "backslashreplace").decode())
    except BaseException as another:  # noqa: BLE001 - a job's exception may do anything
        return f"its message cannot be shown: that raises {type(another).__name__}"


def classify_error(error: BaseException, memory_gib: float) -> PermanentError | TransientError:
    """Return the Segue error for an exception that a job, or code it calls, raised."""
    if isinstance(error, PermanentError | TransientError):
        return error
    message = format_message(error)
    if isinstance(error, SystemExit):
        return JobCrashed(
            f"the job called sys.exit({message}); return a value or raise an error instead"
        )
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    causes = list(_list_causes(error))
    if any(map(_is_lack_of_memory, causes)):
        remedy = "raise its resources.memory_gib, or use less memory"
        return OutOfMemory(f"it needed more than its {memory_gib:g} GiB; {remedy} ({text})")
    if any(_find_errno(cause) in DISK_FULL_ERRNOS for cause in causes):
        return DiskFull(f"the disk is full; free some space, then run again ({text})")
    if isinstance(error, ImportError):
        extra = find_extra(error.name)
        text = f"{text}; {format_hint(extra) if extra else 'install what it needs'}"
    where = _format_frames(error.__traceback__)
    where = f" ({where})" if where else ""
    what = shorten(text, MAX_CHARACTERS - len(where)) + where
    if isinstance(error, ConnectionError | TimeoutError):
        return Unavailable(what)
    return JobRaised(what)


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from, or while they were handled."""
    current: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__


def _is_lack_of_memory(error: BaseException) -> bool:
    return (
        isinstance(error, MemoryError)
        or _find_errno(error) == errno.ENOMEM
        or (isinstance(error, ImportError) and format_message(error).endswith(UNMAPPED))
    )


def _find_errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def is_retryable(error: BaseException) -> bool:
    """Return whether a retry may succeed soon; a full disk or a replaced file stays as it is."""
    if isinstance(error, DiskFull | Superseded | DamagedInput):
        return False
    return isinstance(error, TransientError | ConnectionError | TimeoutError)


def call_with_retry(
    action: Callable[[], T],
    *,
    attempts: int,
    before_pause: Callable[[float], object] = lambda _pause_s: None,
) -> T:
    """Call an action, and again after each transient error, up to ``attempts`` times.

    The last error propagates. ``before_pause`` is called with the length of each pause.
    """

    def pause(pause_s: float) -> None:
        before_pause(pause_s)
        time.sleep(pause_s)

    return retry(action, backoff=BACKOFF, should_retry=is_retryable, attempts=attempts, pause=pause)


def is_clear(error: BaseException) -> bool:
    """Whether the message says it all: of what a job returned, or of a file that it is not for."""
    is_refused = isinstance(error, BadOutput) and error.__cause__ is None
    return is_refused or isinstance(error, NotApplicable)


def format_job_traceback(error: BaseException) -> str:
    """Return the traceback in Python's format, from the first frame of the job's own code."""
    trace = _find_job_frame(error) or error.__traceback__
    try:
        return mask("".join(traceback.format_exception(type(error), error, trace)))
    except BaseException:  # noqa: BLE001 - its own code may fail
        return mask("".join(traceback.format_tb(trace)))


def _find_job_frame(error: BaseException) -> TracebackType | None:
    """Return the part of a traceback that begins with the job's own code, if it gets there."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.endswith(RUNNER_FILES):
        trace = trace.tb_next
    return trace


def _build_traceback(error: BaseException) -> str | None:
    """Return the traceback for the ledger: as valid Unicode, and cut in the middle if it is long.

    It is None if the job's own code is not in it.
    """
    if _find_job_frame(error) is None:
        return None
    try:
        text = format_job_traceback(error).replace(OWN_FRAME, OWN_FRAME_KEPT)
        text = text.encode("utf-8", "backslashreplace").decode()
    except MemoryError:  # what the job needed may not be free yet
        return None
    if len(text) <= MAX_TRACEBACK:
        return text
    kept = MAX_TRACEBACK - len(CUT)
    return text[: kept // 2] + CUT + text[kept // 2 - kept :]


def _format_frames(trace: TracebackType | None) -> str:
    """Return the innermost frames of a traceback, such as ``jobs/rhythm.py:42 in beats``."""
    frames = itertools.dropwhile(
        lambda f: f.filename.endswith(RUNNER_FILES), traceback.extract_tb(trace)
    )
    return ", from ".join(
        f"{'/'.join(f.filename.split(os.sep)[-2:])}:{f.lineno} in {f.name}"
        for f in list(frames)[: -MAX_FRAMES - 1 : -1]
    )


def shorten(text: str, size: int = MAX_CHARACTERS) -> str:
    """Return a text as one line, truncated to a maximum length."""
    text = " ".join(text.split())
    return text if len(text) <= size else f"{text[: size - 1]}…"


def build_timeout(ran_s: float, limit_s: float, warmup_s: float = 0.0) -> Failure:
    """Return the failure of a job that was stopped at its timeout.

    ``warmup_s`` is what the first call in a process may take in addition.
    """
    more = f" (and {warmup_s:g} s more for a process's first call)" if warmup_s else ""
    message = (
        f"it was stopped after {ran_s:.1f} s; its timeout_s is {limit_s:g}{more}: raise it, "
        "or find out what the job waits for"
    )
    return Failure(kind=Kind.TIMEOUT, type="JobTimeout", message=message)


def build_crash(message: str) -> Failure:
    """Return the failure of a job whose process crashed."""
    return Failure(kind=Kind.CRASHED, type="JobCrashed", message=message)


def describe_crash(status: int) -> str:
    """Return how a child that nobody meant to stop has ended, and the probable reason."""
    text = describe_exit(status)
    if status == os.EX_IOERR:
        return (
            f"{text}: the job, or code that it calls, closes file descriptors that it did not open"
        )
    if status == os.EX_CANTCREAT:
        return f"{text}: it could not create its temporary folder"
    if status >= 0:
        return f"{text}: the job, or code that it calls, ends the process"
    if -status == signal.SIGKILL:
        return f"{text}, but not by Segue: the machine probably ran out of memory; see dmesg"
    return text


def describe_exit(status: int) -> str:
    """Return how a process has ended, as a clause without its subject."""
    if status >= 0:
        return f"exited with code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    return f"was killed by signal {-status} ({name})"
