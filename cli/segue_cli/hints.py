"""What to do about a failure, by its kind."""

from __future__ import annotations

from segue.errors import Kind

HINTS = {
    Kind.CORRUPT_MEDIA: "replace the file; its new version is processed automatically",
    Kind.MISSING_INPUT: "restore the object or recompute it, then retry",
    Kind.JOB_RAISED: "reproduce it with 'segue run'; fix the job and raise its version, or retry",
    Kind.TIMEOUT: "raise the job's timeout_s, then retry",
    Kind.CRASHED: "reproduce it with 'segue run'; fix the crash, then retry",
    Kind.OUT_OF_MEMORY: "raise the job's resources.memory_gib, then retry",
    Kind.BAD_OUTPUT: "fix the job's return value and raise its version, or fix its content type",
    Kind.UNAVAILABLE: "check that the server can be reached, then retry",
    Kind.CONTENDED: "retry when fewer workers compete for the same file",
    Kind.DISK_FULL: "free some disk space, then retry",
    Kind.UNREADABLE_MESSAGE: "find out who publishes it; a newer Segue may be able to read it",
    Kind.SUPERSEDED: "run the backfill again; it processes the new version of the file",
}


def find_hint(kind: str) -> str:
    """Return what to do about a kind of failure, or an empty string."""
    return HINTS.get(Kind(kind), "") if kind in set(Kind) else ""
