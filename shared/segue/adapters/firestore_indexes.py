"""The indexes that the ledger's queries need in Firestore; Terraform creates the same.

By default Firestore indexes every field by itself: that multiplies the cost of a write, and an
index of growing values, such as timestamps, caps the collection at 500 writes a second. So fields
are exempted from it, and what is indexed depends neither on the graph nor on what a record holds:
two composite indexes, and the elements of ``done``.
"""

from __future__ import annotations

from dataclasses import dataclass

COLLECTION = "files"
# The fields of a document. All but the record itself are there for queries.
URI = "uri"
DELETED = "deleted"
OPEN = "open"  # terms, see ``segue.model.record``
DONE = "done"  # terms
EXPIRES_AT = "expires_at"  # only of tombstones: Firestore's time-to-live policy deletes them then
RECORD = "record"  # JSON


@dataclass(frozen=True, slots=True)
class Index:
    """A composite index: of an array's elements if it begins with one, else in ascending order."""

    fields: tuple[str, ...]

    @property
    def modes(self) -> tuple[str, ...]:
        """How each field is indexed, in Terraform's terms."""
        return tuple("CONTAINS" if field == OPEN else "ASCENDING" for field in self.fields)


def build_indexes() -> list[Index]:
    """Return the composite indexes that ``find`` and ``count`` need.

    A query for files and tombstones alike asks for ``deleted`` in both its values.
    """
    return [Index((OPEN, URI)), Index((DELETED, URI))]


def list_exempt_fields() -> list[str]:
    """Return the fields without an index of their own; ``done`` has one, of its elements."""
    return [URI, DELETED, OPEN, EXPIRES_AT, RECORD]
