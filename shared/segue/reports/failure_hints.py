"""What to do about a failure, by its kind."""

from __future__ import annotations

from collections.abc import Mapping

from segue.errors import Kind

HINTS: Mapping[str, str] = {
    Kind.CORRUPT_MEDIA: "replace the file; its new version is processed automatically",
    Kind.TOO_LARGE: "raise SEGUE_MAX_DECODED_GIB or memory_gib, split the file, or scale the "
    "picture down; then retry",
    Kind.DAMAGED_INPUT: "run the backfill again; it computes the parent's result again",
    Kind.DAMAGED_RECORD: "restore the ledger from a backup; the runbook says how",
    Kind.MISSING_INPUT: "restore the object or recompute it, then retry",
    Kind.JOB_RAISED: "reproduce it with 'segue run'; fix the job and raise its version, or retry",
    Kind.TIMEOUT: "raise the job's timeout_s, then retry",
    Kind.CRASHED: "reproduce it with 'segue run'; fix the crash, then retry",
    Kind.OUT_OF_MEMORY: "raise the job's resources.memory_gib, then retry",
    Kind.BAD_OUTPUT: "fix the job's return value and raise its version, or fix its content type",
    Kind.UNAVAILABLE: "check that the server can be reached, then retry",
    Kind.CONTENDED: "retry when fewer workers compete for the same file",
    Kind.DISK_FULL: "free some disk space, then retry",
    Kind.NO_SPACE: "free some disk space or set TMPDIR to a larger disk; a backfill tries it again",
    Kind.UNREADABLE_MESSAGE: "find out who publishes it; a newer Segue may be able to read it",
    Kind.SUPERSEDED: "run the backfill again; it processes the new version of the file",
}
