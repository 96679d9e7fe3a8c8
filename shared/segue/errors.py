"""What can go wrong, sorted by what the caller does about it.

::

    SegueError
    ├── ConfigurationError      the graph, a setting or an argument is wrong: do nothing, tell
    ├── PermanentError          it fails each time: record it, block what is below, go on
    │   ├── CorruptMedia            the file is damaged, empty, or is not what its name says
    │   ├── MissingInput            an object that the job needs is gone
    │   ├── JobRaised               the job's own code raised
    │   ├── JobTimeout              it ran past ``timeout_s`` and was stopped
    │   ├── JobCrashed              its process died: a segmentation fault, an exit, a signal
    │   ├── OutOfMemory             it wanted more than ``memory_gib``
    │   ├── BadOutput               it returned something that its content type cannot hold
    │   └── UnreadableMessage       the bytes on a topic are no message: put them aside
    └── TransientError          the world is not ready: try again later, record nothing as failed
        ├── Unavailable             a server is away, slow, or asks to slow down
        ├── Contended               others changed the same record again and again
        ├── DiskFull                no room left on the device
        └── Superseded              the file was overwritten while it was being worked on

Every message gives the value, the rule, and the way out.
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """The closed vocabulary of failures: what the ledger stores, and ``segue failures`` counts."""

    CORRUPT_MEDIA = "corrupt_media"
    MISSING_INPUT = "missing_input"
    JOB_RAISED = "job_raised"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    BAD_OUTPUT = "bad_output"
    UNAVAILABLE = "unavailable"
    CONTENDED = "contended"
    DISK_FULL = "disk_full"
    SUPERSEDED = "superseded"
    UNREADABLE_MESSAGE = "unreadable_message"  # only of dead letters: it names no file


class SegueError(Exception):
    """The root of all errors that Segue raises on purpose."""


class ConfigurationError(SegueError):
    """The graph, a setting or an argument is wrong; nothing was done."""


class PermanentError(SegueError):
    """Trying again would give the same; the failure is recorded with its kind."""

    kind: Kind = Kind.JOB_RAISED


class CorruptMedia(PermanentError):
    """The media file is damaged, empty, truncated, or not what its name says."""

    kind = Kind.CORRUPT_MEDIA


class MissingInput(PermanentError):
    """An object that the job needs does not exist (any more)."""

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


class OutOfMemory(PermanentError):
    """The job wanted more memory than its ``memory_gib``."""

    kind = Kind.OUT_OF_MEMORY


class BadOutput(PermanentError):
    """The job returned a value that its content type cannot hold."""

    kind = Kind.BAD_OUTPUT


class UnreadableMessage(PermanentError):
    """The bytes are no message, or no dead letter, of a version that this code reads."""

    kind = Kind.UNREADABLE_MESSAGE


class TransientError(SegueError):
    """Trying again later may succeed."""

    kind: Kind = Kind.UNAVAILABLE


class Unavailable(TransientError):
    """A server is away, slow, or asks to slow down."""

    kind = Kind.UNAVAILABLE


class Contended(TransientError):
    """Others changed the same record on each attempt."""

    kind = Kind.CONTENDED


class DiskFull(TransientError):
    """No room is left on the device."""

    kind = Kind.DISK_FULL


class Superseded(TransientError):
    """The file was overwritten or deleted while it was being worked on."""

    kind = Kind.SUPERSEDED
