"""What the exit code of each command says; scripts and schedulers decide by it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0  # what was asked for is done
    ERROR = 1  # something unexpected, or a job that was run by hand failed
    USAGE = 2  # the command line, a setting or the graph is wrong; nothing was done
    FAILURES = 3  # some files failed, beyond what was tolerated
    UNFINISHED = 4  # something is held, deferred or superseded: run again
    UNAVAILABLE = 5  # a server is away, or the disk is full: try again later
    INTERRUPTED = 130  # Ctrl-C
