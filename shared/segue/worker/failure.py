"""From an exception to what the ledger keeps of it: kind, class, and a message that says where."""

from __future__ import annotations

import errno
import itertools
import os
import traceback
from types import TracebackType
from typing import NamedTuple

from segue.errors import (
    DiskFull,
    JobCrashed,
    JobRaised,
    OutOfMemory,
    PermanentError,
    Superseded,
    TransientError,
    Unavailable,
)
from segue.model.record import Failure

MAX_CHARACTERS = 500
MAX_FRAMES = 3
FULL = (errno.ENOSPC, errno.EDQUOT)
# What a traceback goes through before it comes to the job's own code.
MACHINERY = tuple(
    os.path.join(os.sep, "segue", *place.split("/"))
    for place in ("model/job_code.py", "worker/child.py", "worker/line_run.py", "worker/retry.py")
)


class Trouble(NamedTuple):
    """What an exception means for the job that raised it, and for the rest of its line."""

    failure: Failure
    permanent: bool  # trying again would give the same
    in_vain: bool  # nothing else on the line is worth a try now


def trouble(error: BaseException, memory_gib: float) -> Trouble:
    """Say what an exception means."""
    known = understood(error, memory_gib)
    return Trouble(
        failure=Failure(kind=known.kind, type=type(error).__name__, message=short(str(known))),
        permanent=isinstance(known, PermanentError),
        in_vain=isinstance(known, Superseded | DiskFull),
    )


def understood(error: BaseException, memory_gib: float) -> PermanentError | TransientError:
    """Say in Segue's terms what a job's code, or something below it, raised."""
    if isinstance(error, PermanentError | TransientError):
        return error
    if isinstance(error, SystemExit):
        return JobCrashed(
            f"the job called sys.exit({error.code!r}); let it return a value, or raise"
        )
    said = f"{type(error).__name__}: {error}"
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        remedy = "raise its resources.memory_gib, or let it need less"
        return OutOfMemory(f"it may add {memory_gib:g} GiB, and wanted more; {remedy} ({said})")
    if number in FULL:
        return DiskFull(f"no room is left on the device; free some, and run again ({said})")
    where = _frames(error.__traceback__)
    where = f" ({where})" if where else ""
    what = short(said, MAX_CHARACTERS - len(where)) + where
    if isinstance(error, ConnectionError | TimeoutError):
        return Unavailable(what)
    return JobRaised(what)


def worth_retrying(error: BaseException) -> bool:
    """Whether the same may succeed in a moment: a full disk, or a replaced file, does not pass."""
    if isinstance(error, DiskFull | Superseded):
        return False
    return isinstance(error, TransientError | ConnectionError | TimeoutError)


def own_traceback(error: BaseException) -> str:
    """The traceback as Python writes it, from where the job's own code begins."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.endswith(MACHINERY):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))


def _frames(trace: TracebackType | None) -> str:
    """The innermost lines of a traceback, such as ``jobs/rhythm.py:42 in beats``."""
    frames = itertools.dropwhile(
        lambda f: f.filename.endswith(MACHINERY), traceback.extract_tb(trace)
    )
    return ", from ".join(
        f"{'/'.join(f.filename.split(os.sep)[-2:])}:{f.lineno} in {f.name}"
        for f in list(frames)[: -MAX_FRAMES - 1 : -1]
    )


def short(text: str, size: int = MAX_CHARACTERS) -> str:
    """Return a text in one line of bounded length."""
    text = " ".join(text.split())
    return text if len(text) <= size else f"{text[: size - 1]}…"
