"""The exit codes of all commands, for scripts and schedulers."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    ERROR = 1  # an unexpected error, or a job that was run by hand failed
    USAGE = 2  # the command line, a setting or the graph is invalid; nothing was done
    FAILURES = 3  # some files failed; for a backfill, more than --tolerate allows
    UNFINISHED = 4  # work is held by others, deferred or superseded, or timed out: run again
    UNAVAILABLE = 5  # a server is unavailable or the disk is full: try again later
    INTERRUPTED = 130  # Ctrl-C
