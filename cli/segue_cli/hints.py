"""What a person can do about a failure, by its kind."""

from __future__ import annotations

from segue.errors import Kind

REMEDIES = {
    Kind.CORRUPT_MEDIA: "replace the file: its new version is tried by itself",
    Kind.MISSING_INPUT: "put the object back or compute it again, then retry",
    Kind.JOB_RAISED: "see it with 'segue run'; mend the job and raise its version, or retry",
    Kind.TIMEOUT: "raise the job's timeout_s, then retry",
    Kind.CRASHED: "see it with 'segue run'; mend what crashes, then retry",
    Kind.OUT_OF_MEMORY: "raise the job's resources.memory_gib, then retry",
    Kind.BAD_OUTPUT: "mend what the job returns and raise its version, or its content type",
    Kind.UNAVAILABLE: "see that the server can be reached, then retry",
    Kind.CONTENDED: "retry when fewer work on the same file",
    Kind.DISK_FULL: "free some room, then retry",
    Kind.UNREADABLE_MESSAGE: "find out who publishes it; a newer Segue may read it",
    Kind.SUPERSEDED: "run the backfill again: the new version of the file is worked on",
}


def remedy(kind: str) -> str:
    """Say what to do about a kind of failure."""
    return REMEDIES.get(Kind(kind), "") if kind in set(Kind) else ""
