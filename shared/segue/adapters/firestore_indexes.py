"""The indexes that the ledger's queries need in Firestore; Terraform creates them from this list.

By default Firestore indexes every field by itself: that multiplies the cost of a write, and an
index of growing values, such as timestamps, caps the collection at 500 writes a second. So every
field is exempted, and only the composite indexes below exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.model.record import Record

if TYPE_CHECKING:
    from segue.model.graph import Graph

COLLECTION = "files"
# Beside the fields of a record: no index can tell what has a date of deletion from what has none,
# nor whether any of a record's entries has something in ``pending_targets``.
DELETED = "deleted"
PENDING = "owed"
EXPIRES_AT = "expires_at"  # only of tombstones: Firestore's time-to-live policy deletes them then


@dataclass(frozen=True, slots=True)
class Index:
    """A composite index of the collection; every field is in ascending order."""

    fields: tuple[str, ...]


def format_state_path(job: str) -> str:
    """Return the field path of the state of a job's entry."""
    return f"jobs.{job}.state"


def format_fingerprint_path(job: str) -> str:
    """Return the field path of the fingerprint of a job's entry."""
    return f"jobs.{job}.fingerprint"


def build_indexes(graph: Graph) -> list[Index]:
    """Return the composite indexes that ``find`` and ``count`` need: two per job, and two more.

    A query for files and tombstones alike asks for ``deleted`` in both its values. One for what is
    pending among the files with a job in a state is served by two indexes, which Firestore merges.
    """
    wanted = [Index((DELETED, "uri")), Index((DELETED, PENDING, "uri"))]
    for job in graph.jobs:
        wanted.append(Index((DELETED, format_state_path(job), "uri")))
        wanted.append(Index((DELETED, format_state_path(job), format_fingerprint_path(job))))
    return wanted


def list_exempt_fields() -> list[str]:
    """Return the fields without an index of their own; ``jobs`` speaks for all below it."""
    return [*Record.__struct_fields__, DELETED, PENDING, EXPIRES_AT]
