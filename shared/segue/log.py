"""The log: one line per event, with an action from a closed vocabulary.

In the cloud a line is a JSON object, on which metrics are built; in a terminal it is readable text.
``SEGUE_LOG_LEVEL`` names the least severity that is logged, ``SEGUE_LOG_FILE`` a file that gets the
same events as JSON. Never log a payload or a secret.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from enum import StrEnum
from typing import IO, Any

from segue.clock import utc_now
from segue.printable import encode_json, escape, escape_lines

LOGGER = logging.getLogger("segue")
LEVEL, FILE = "SEGUE_LOG_LEVEL", "SEGUE_LOG_FILE"
LEVELS = ("debug", "info", "warning", "error")
_COMMON: ContextVar[Mapping[str, Any] | None] = ContextVar("common_fields", default=None)


class Action(StrEnum):
    """The closed vocabulary of events."""

    # functions
    ARRIVED = "arrived"  # a file is recorded, and the pipelines that read it are notified
    IGNORED = "ignored"  # an object that is not catalogue media, or an event that is too late
    MALFORMED = "malformed"  # an event or request that cannot be parsed
    DELETED = "deleted"  # a tombstone is written
    REQUESTED = "requested"  # results are requested
    SWEPT = "swept"  # unfinished work is requested again
    # backfills and streaming pipelines
    RECOMPUTED = "recomputed"  # an artifact is gone or has changed, and is computed again
    PRINTED = "printed"  # a line that a job, or code that it calls, has printed
    PROGRESS = "progress"  # how far a job says that it is
    # streaming pipelines
    DONE = "done"  # a job has its result
    FAILED = "failed"  # a job failed permanently on a file
    BLOCKED = "blocked"  # a job above it failed
    NOT_APPLICABLE = "not_applicable"  # a job, or one above it, is not for a file
    DEFERRED = "deferred"  # a transient error; the message is sent again
    LOST = "lost"  # a result came too late
    FORWARDED = "forwarded"  # nothing to do here; the pipelines below are notified once more
    ASKED = "asked"  # other pipelines continue, and are sent a request
    WAITING = "waiting"  # another process is computing it, or other parents have not finished
    DROPPED = "dropped"  # a message after which there is nothing to do
    PINGED = "pinged"  # a ping passed
    DEAD_LETTERED = "dead_lettered"  # a message could not be processed
    # backfills and reconciliations
    LEFT_OUT = "left_out"  # a file that cannot be processed, or that does not exist
    # processes
    STARTED = "started"
    MISSING = "missing"  # results that nobody has requested, found at the start
    CHANGED = "changed"  # the graph or the code of its jobs; the programs start again
    STOPPED = "stopped"
    PAUSED = "paused"  # an operator has paused a job
    RESUMED = "resumed"
    DAMAGED = "damaged"  # a record of the ledger cannot be read
    UNAVAILABLE = "unavailable"  # a server cannot be reached
    MISCONFIGURED = "misconfigured"  # the set-up is wrong and has to be repaired


def log_event(action: Action, *, severity: str = "INFO", **fields: Any) -> None:
    """Log one event; fields that are None are left out."""
    given = {k: v for k, v in {**(_COMMON.get() or {}), **fields}.items() if v is not None}
    line = {"severity": severity, "action": str(action), **given}
    LOGGER.log(
        logging.getLevelNamesMapping()[severity],
        "%s",
        encode_json(line, default=str),
        extra={"segue": line},
    )


def describe_call(line: Mapping[str, Any]) -> str | None:
    """Return what a job has printed, or how far it is, behind its name and file, for people.

    None: the line is about something else.
    """
    if line.get("action") not in {Action.PRINTED, Action.PROGRESS}:
        return None
    files = line.get("files") or 1
    file = str(line.get("file") or "").rpartition("/")[2]
    about = " ".join(filter(None, (line.get("job"), f"{files} files" if files > 1 else file)))
    text = str(line.get("text") or "")
    if line["action"] == Action.PROGRESS:
        text = f"{100 * line.get('fraction', 0.0):.0f} % {text}".rstrip()
    return escape_lines(f"{about or 'worker'}: {text}")


@contextlib.contextmanager
def add_common_fields(**fields: Any) -> Iterator[None]:
    """Add fields to all events that this thread logs for a while."""
    before = _COMMON.set({**(_COMMON.get() or {}), **fields})
    try:
        yield
    finally:
        _COMMON.reset(before)


class _ReadableFormatter(logging.Formatter):
    """Formats an event as a line for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, action and fields, and the level from a warning up."""
        line = getattr(record, "segue", None)
        time = self.formatTime(record, "%H:%M:%S")
        if line is None:
            return escape(f"{time} {record.levelname.lower()} {record.getMessage()}")
        if (said := describe_call(line)) is not None:
            return said if line["action"] == Action.PRINTED else f"{time} {said}"
        rest = " ".join(f"{k}={v}" for k, v in line.items() if k not in {"severity", "action"})
        mark = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"{time} {mark}{line['action']} {escape(rest)}"


class PrintableFormatter(logging.Formatter):
    """Formats the records of others, with unprintable characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, and the traceback if there is one."""
        return escape_lines(super().format(record))


def encode_with_time(line: Mapping[str, Any]) -> str:
    """Return an event as JSON, with the present time."""
    now = utc_now().isoformat(timespec="milliseconds")
    return encode_json({"time": now, **line}, default=str)


def find_level() -> int:
    """Return the least severity that is logged; what no level is called is ``info``."""
    name = os.environ.get(LEVEL, "info").upper()
    return logging.getLevelNamesMapping().get(name, logging.INFO)


def is_logged(line: Mapping[str, Any]) -> bool:
    """Whether the severity of an event is logged."""
    severity = str(line.get("severity", "INFO"))
    return logging.getLevelNamesMapping().get(severity, logging.INFO) >= find_level()


class LogFile(logging.Handler):
    """A file that gets each event as a JSON object with its time, by an append of its own.

    So several processes may write to it, and it may be moved away at any time. A disk that is full
    stops nobody.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Append an event, or a message of others."""
        other = {"severity": record.levelname, "message": record.getMessage()}
        self.append(getattr(record, "segue", other))

    def append(self, line: Mapping[str, Any]) -> None:
        """Append an event."""
        with contextlib.suppress(OSError), open(self._path, "ab", buffering=0) as file:
            file.write(f"{encode_with_time(line)}\n".encode())


def find_log_file() -> LogFile | None:
    """Return the file that gets all events, if there is one."""
    path = os.environ.get(FILE)
    return LogFile(path) if path else None


def configure(*, as_json: bool | None = None, stream: IO[str] | None = None) -> None:
    """Log to standard output, as JSON unless it is a terminal; and to a file, if one is set."""
    out = sys.stdout if stream is None else stream
    if as_json is None:
        as_json = bool(os.environ.get("K_SERVICE")) or not out.isatty()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(message)s") if as_json else _ReadableFormatter())
    file = find_log_file()
    LOGGER.handlers[:] = [handler] if file is None else [handler, file]
    LOGGER.propagate = False
    LOGGER.setLevel(find_level())
