"""The exit codes of all commands, for scripts and schedulers."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0  # what was requested is there
    ERROR = 1  # an unexpected error, or a job that was run by hand failed
    USAGE = 2  # the command line, a setting, the graph or a job's code is wrong
    FAILURES = 3  # some files lack a result, and running again does not help
    UNFINISHED = 4  # some files lack a result as yet: run again
    UNAVAILABLE = 5  # a server is unavailable or the disk is full: run again later
    INTERRUPTED = 130  # Ctrl-C
