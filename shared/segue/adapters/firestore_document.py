"""A record as a document of Firestore: its fields, its size, and its revision.

A revision is the time at which the document was last updated. The server's times have microseconds,
and it refuses a condition with more digits; Segue keeps those that it gave.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from segue.adapters.firestore_indexes import DELETED, DONE, EXPIRES_AT, OPEN, RECORD, URI
from segue.adapters.ledger_format import decode_snapshot, encode_record
from segue.errors import ConfigurationError
from segue.model.record import Record, list_done_terms, list_open_terms, shrink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.cloud.firestore import DocumentSnapshot
    from google.protobuf.timestamp_pb2 import Timestamp

    from segue.model.ledger import DamageReport, Snapshot

DOCUMENT_BYTES = 1_000_000  # of the 1 MiB that a document may have, measured slightly differently
# The arrival event of a deleted file can be late: it is redelivered for hours, and kept for a week.
TOMBSTONE_TTL = timedelta(days=90)


def build_fields(record: Record) -> dict[str, Any]:
    """Return the fields of a record's document."""
    fields: dict[str, Any] = {
        URI: record.uri,
        DELETED: record.deleted_at is not None,
        OPEN: list_open_terms(record),
        DONE: list_done_terms(record),
        RECORD: encode_record(record).decode(),
    }
    if record.deleted_at is not None and not record.erased:
        fields[EXPIRES_AT] = record.deleted_at + TOMBSTONE_TTL
    return fields


def fit_record(record: Record) -> tuple[Record, dict[str, Any]]:
    """Return what a document can hold of a record, and the document's fields.

    Raises
    ------
    ConfigurationError
        If even what has to be kept is too large.
    """
    for smaller in shrink(record):
        fields = build_fields(smaller)
        size_bytes = measure(fields)
        if size_bytes <= DOCUMENT_BYTES:
            return smaller, fields
    raise ConfigurationError(
        f"the record of {record.uri} is {size_bytes} bytes, and a Firestore document holds 1 MiB; "
        "remove the results of old versions with 'segue gc', or split the graph"
    )


def measure(fields: Mapping[str, Any]) -> int:
    """Return about the size of a document in bytes."""
    texts = [fields[URI], fields[RECORD], *fields[OPEN], *fields[DONE]]
    return sum(len(text.encode()) + 1 for text in texts)


def document_to_snapshot(
    uri: str, document: DocumentSnapshot[Any], *, database: str, damage: DamageReport
) -> Snapshot:
    """Decode the document of a file."""
    return decode_snapshot(
        uri,
        (document.to_dict() or {}).get(RECORD),
        format_revision(document.update_time),
        where=f"the document {database}/documents/{document.reference.path}",
        damage=damage,
    )


def format_revision(update_time: Any) -> str:
    """Format a time of the server with all of its digits."""
    return str(update_time.rfc3339())


def parse_revision(revision: str) -> Timestamp | None:
    """Return the time of a revision; None if it is one of another store."""
    from google.protobuf.timestamp_pb2 import Timestamp

    time = Timestamp()
    try:
        time.FromJsonString(revision)
    except ValueError:
        return None
    return time
