"""The indexes that the ledger's queries need in Firestore; Terraform is written from these.

Firestore indexes every field on its own unless told otherwise: that multiplies the cost of a write,
and an index of growing values, such as timestamps, caps the collection at 500 writes a second. So
every field is exempted, and only the composite indexes below are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.adapters.firestore_values import DELETED, EXPIRES_AT, OWED
from segue.model.record import Record

if TYPE_CHECKING:
    from segue.model.graph import Graph

COLLECTION = "files"


@dataclass(frozen=True, slots=True)
class Index:
    """A composite index of the collection; every field is in ascending order."""

    fields: tuple[str, ...]


def state_path(job: str) -> str:
    """Where the state of a job's entry stands in a document."""
    return f"jobs.{job}.state"


def fingerprint_path(job: str) -> str:
    """Where the fingerprint of a job's entry stands in a document."""
    return f"jobs.{job}.fingerprint"


def indexes(graph: Graph) -> list[Index]:
    """Return the composite indexes that ``find`` and ``count`` need: two a job, and two.

    A query for files and tombstones alike asks for ``deleted`` in both its values. One for what is
    owed among the files with a job in a state is served by two indexes, which Firestore merges.
    """
    wanted = [Index((DELETED, "uri")), Index((DELETED, OWED, "uri"))]
    for job in graph.jobs:
        wanted.append(Index((DELETED, state_path(job), "uri")))
        wanted.append(Index((DELETED, state_path(job), fingerprint_path(job))))
    return wanted


def exemptions() -> list[str]:
    """Return the fields without an index of their own; ``jobs`` speaks for all below it."""
    return [*Record.__struct_fields__, DELETED, OWED, EXPIRES_AT]
