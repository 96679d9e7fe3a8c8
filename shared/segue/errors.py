"""The exceptions, grouped by what the caller does about them.

::

    SegueError
    ├── ConfigurationError      the graph, a setting or an argument is wrong: stop and report it
    │   └── DatabaseReplaced        the ledger's or queue's file is gone: end all that use it
    ├── TooManyFailures         the first files of a run all failed in the same job, or more files
    │                           than --max-failures allows: stop
    ├── RunCancelled            somebody has cancelled the run: stop
    ├── NotApplicable           the job is not for this file: no failure, and nothing below it runs
    │   └── NotAccepted             the file is of a type that the job does not accept
    ├── PermanentError          it fails every time: record it, block the jobs below, go on
    │   ├── CorruptMedia            the file is damaged, empty, or not what its name says
    │   ├── TooLarge                the file is longer or larger than what can be processed
    │   ├── MissingInput            an object that the job needs is gone
    │   ├── JobRaised               the job's own code raised
    │   ├── JobTimeout              it ran past ``timeout_s`` and was stopped
    │   ├── JobCrashed              its process died: a segmentation fault, an exit or a signal
    │   │   └── JobKilled               somebody else killed it, such as the kernel's OOM killer
    │   ├── OutOfMemory             it needed more than ``memory_gib``
    │   ├── BadOutput               it returned a value that its content type cannot hold
    │   ├── DamagedRecord           what the ledger holds of a file cannot be read
    │   └── UnreadableMessage       the bytes on a topic are not a message: dead-letter them
    └── TransientError          it may succeed later: try again, record nothing as failed
        ├── Unavailable             a server is unreachable, slow, or asks to slow down
        ├── Contended               other processes kept changing the same record
        ├── DiskFull                no space is left on the device, whatever job runs
        ├── NoSpace                 this job needs more space on this file than is free: recorded,
        │                           and tried again by the next run
        ├── DamagedInput            a parent's artifact is gone or has changed: compute it again
        └── Superseded              the file was overwritten while it was being processed

Every message gives the value, the rule and the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of failures: the ledger stores them, and ``segue failures`` counts them."""

    CORRUPT_MEDIA = "corrupt_media"
    TOO_LARGE = "too_large"
    MISSING_INPUT = "missing_input"
    JOB_RAISED = "job_raised"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    BAD_OUTPUT = "bad_output"
    UNAVAILABLE = "unavailable"
    CONTENDED = "contended"
    DISK_FULL = "disk_full"
    DAMAGED_INPUT = "damaged_input"
    DAMAGED_RECORD = "damaged_record"
    NO_SPACE = "no_space"
    SUPERSEDED = "superseded"
    UNREADABLE_MESSAGE = "unreadable_message"  # only in dead letters, as it names no file


class Reason(StrEnum):
    """Why a job is not for a file, in the ledger; that is no failure."""

    NOT_ACCEPTED = "not_accepted"  # the file is of a type that the job does not accept
    DECLINED = "declined"  # the job's code, or Segue's for it, has raised NotApplicable


class SegueError(Exception):
    """The base of all errors that Segue raises on purpose."""


class ConfigurationError(SegueError):
    """The graph, a setting or an argument is wrong; nothing was done."""


class DatabaseReplaced(ConfigurationError):
    """The file of a ledger or queue was deleted, moved or replaced while it was in use."""


class TooManyFailures(SegueError):
    """Too many files of a run have failed, or the first ones all have; this is recorded."""


class RunCancelled(SegueError):
    """Somebody has cancelled the run; what was finished is recorded."""

    def __init__(self, message: str, by: str | None = None) -> None:
        super().__init__(message)
        self.by = by


class NotApplicable(SegueError):
    """A job is not for this file, as this one has no speech or no sound; that is no failure."""

    kind: Reason = Reason.DECLINED


class NotAccepted(NotApplicable):
    """The file is of a type that the job does not accept."""

    kind = Reason.NOT_ACCEPTED

    def __init__(self, message: str, types: Collection[str] = ()) -> None:
        super().__init__(message)
        self.types = frozenset(types)  # that the file has


class PermanentError(SegueError):
    """Another attempt would fail, too; the failure is recorded with its kind."""

    kind: Kind = Kind.JOB_RAISED


class CorruptMedia(PermanentError):
    """The media file is damaged, empty, truncated, or not what its name says."""

    kind = Kind.CORRUPT_MEDIA


class TooLarge(PermanentError):
    """The media file is longer, or decodes to more, than a limit allows."""

    kind = Kind.TOO_LARGE


class MissingInput(PermanentError):
    """An object that the job needs does not exist, or no longer."""

    kind = Kind.MISSING_INPUT


class JobRaised(PermanentError):
    """The job's own code raised an exception."""

    kind = Kind.JOB_RAISED


class JobTimeout(PermanentError):
    """The job ran past its ``timeout_s`` and was stopped."""

    kind = Kind.TIMEOUT


class JobCrashed(PermanentError):
    """The process that ran the job died."""

    kind = Kind.CRASHED


class JobKilled(JobCrashed):
    """A process of the job was killed, and not by Segue: perhaps because memory ran out."""


class OutOfMemory(PermanentError):
    """The job needed more memory than its ``memory_gib``."""

    kind = Kind.OUT_OF_MEMORY


class BadOutput(PermanentError):
    """The job returned a value that its content type cannot hold."""

    kind = Kind.BAD_OUTPUT


class DamagedRecord(PermanentError):
    """What the ledger holds of some files cannot be read."""

    kind = Kind.DAMAGED_RECORD

    def __init__(self, message: str, uris: Collection[str] = ()) -> None:
        super().__init__(message)
        self.uris = frozenset(uris)


class UnreadableMessage(PermanentError):
    """The bytes are not a message or dead letter of a version that this code reads."""

    kind = Kind.UNREADABLE_MESSAGE


class TransientError(SegueError):
    """A later attempt may succeed."""

    kind: Kind = Kind.UNAVAILABLE


class Unavailable(TransientError):
    """A server is unreachable, slow, or asks to slow down."""

    kind = Kind.UNAVAILABLE


class Contended(TransientError):
    """Other processes changed the same record on each attempt."""

    kind = Kind.CONTENDED


class DiskFull(TransientError):
    """No space is left on the device, and that is no file's fault."""

    kind = Kind.DISK_FULL


class NoSpace(TransientError):
    """The job needs more disk space for this file than is free, even with nothing else running."""

    kind = Kind.NO_SPACE


class DamagedInput(TransientError):
    """A parent's artifact is gone, or is not what the ledger says; it is computed again."""

    kind = Kind.DAMAGED_INPUT

    def __init__(self, message: str, job: str = "") -> None:
        super().__init__(message)
        self.job = job  # the parent


class Superseded(TransientError):
    """The file was overwritten or deleted while it was being processed."""

    kind = Kind.SUPERSEDED


def build_error(kind: str, message: str) -> PermanentError | TransientError | NotApplicable:
    """Return the error of a kind, such as one that was recorded."""
    if kind in set(Reason):
        return NotApplicable(message)
    for root in (PermanentError, TransientError):
        for error in root.__subclasses__():
            if error.kind == kind:
                return error(message)
    return PermanentError(message)


def suggest(
    word: str, known: Iterable[str], *, otherwise: str | None = None, limit: int = 1
) -> str:
    """Return the last part of a message about a word that is not known.

    It is ``did you mean 'x'?`` with similar known words, else ``otherwise`` or all of them.
    """
    names = list(map(str, known))
    if close := difflib.get_close_matches(word, names, n=limit):
        return f"did you mean {' or '.join(map(repr, close))}?"
    if otherwise is not None:
        return otherwise
    return f"use one of {', '.join(names)}" if names else "there are none to choose from"
