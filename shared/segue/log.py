"""What is logged: one line an event, with an action from a closed vocabulary.

In the cloud a line is one JSON object, on which metrics are built; in a terminal it is read by a
person. No payload and no secret is ever logged.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from enum import StrEnum
from typing import IO, Any

LOGGER = logging.getLogger("segue")


class Action(StrEnum):
    """The closed vocabulary of what happens."""

    # functions
    ARRIVED = "arrived"  # a file is recorded, and its jobs are told
    IGNORED = "ignored"  # an object that is no catalogue media, or an event that comes too late
    MALFORMED = "malformed"  # an event or request that is none
    DELETED = "deleted"  # a tombstone is left
    REQUESTED = "requested"  # results were asked for
    SWEPT = "swept"  # what was left lying is published again
    # streaming pipelines
    DONE = "done"  # a job has its result
    FAILED = "failed"  # a job failed on a file, for good
    BLOCKED = "blocked"  # something above it failed
    DEFERRED = "deferred"  # a transient error; it is tried again
    LOST = "lost"  # a result came too late
    FORWARDED = "forwarded"  # there was nothing to do here; the children were told
    ASKED = "asked"  # something above was missing, and was asked for
    WAITING = "waiting"  # somebody else is at it
    DROPPED = "dropped"  # a message that nothing can be done about
    PINGED = "pinged"  # a ping came by
    DEAD_LETTERED = "dead_lettered"  # what could not be worked on was put aside
    # processes
    STARTED = "started"
    STOPPED = "stopped"
    UNAVAILABLE = "unavailable"  # a server is away
    MISCONFIGURED = "misconfigured"  # the set-up is wrong; somebody has to repair it


def say(action: Action, *, severity: str = "INFO", **fields: Any) -> None:
    """Log one event; fields that are None are left out."""
    told = {k: v for k, v in fields.items() if v is not None}
    line = {"severity": severity, "action": str(action), **told}
    LOGGER.log(
        logging.getLevelNamesMapping()[severity],
        "%s",
        json.dumps(line, ensure_ascii=False, default=str),
        extra={"segue": line},
    )


class _Readable(logging.Formatter):
    """A line for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, action and fields; a warning says so."""
        line = getattr(record, "segue", None)
        time = self.formatTime(record, "%H:%M:%S")
        if line is None:
            return f"{time} {record.levelname.lower()} {record.getMessage()}"
        rest = " ".join(f"{k}={v}" for k, v in line.items() if k not in {"severity", "action"})
        mark = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"{time} {mark}{line['action']} {_printable(rest)}"


def _printable(text: str) -> str:
    """Names of files are written by strangers: no control characters reach a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def configure(*, as_json: bool | None = None, stream: IO[str] | None = None) -> None:
    """Send what is logged to standard output: as JSON, unless that is a terminal."""
    out = sys.stdout if stream is None else stream
    if as_json is None:
        as_json = bool(os.environ.get("K_SERVICE")) or not out.isatty()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(message)s") if as_json else _Readable())
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(logging.INFO)
