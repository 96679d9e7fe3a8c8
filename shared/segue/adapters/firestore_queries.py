"""The ledger's queries to Firestore; ``firestore_indexes`` has an index for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segue.adapters.firestore_indexes import (
    COLLECTION,
    DELETED,
    PENDING,
    format_fingerprint_path,
    format_state_path,
)
from segue.model.ledger import find_prefix_end
from segue.model.record import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud.firestore import Client
    from google.cloud.firestore import Query as FirestoreQuery

    from segue.model.ledger import Query

IN_VALUES = 30  # the most values that a query may compare a field with


def select_matching(
    client: Client, query: Query, *, after: str = "", limit: int | None = None
) -> FirestoreQuery:
    """Select the records that match a query and come after a URI, in the order of URIs.

    Counts are ordered, too: without it, Firestore would need an index with another last field.
    """
    conditions = [_match_any(DELETED, [False, True] if query.deleted is None else [query.deleted])]
    if query.pending:
        conditions.append((PENDING, "==", True))
    if query.job is not None:
        states = list(State) if query.state is None else [query.state]
        conditions.append(_match_any(format_state_path(query.job), states))
    if query.prefix > after:
        conditions.append(("uri", ">=", query.prefix))
    elif after:
        conditions.append(("uri", ">", after))
    if end := find_prefix_end(query.prefix):
        conditions.append(("uri", "<", end))
    selected = _select(client, *conditions).order_by("uri")
    return selected if limit is None else selected.limit(limit)


def select_done_by(client: Client, job: str, fingerprints: Sequence[str]) -> FirestoreQuery:
    """Select all files with a job done under one of up to ``IN_VALUES`` fingerprints."""
    return _select(
        client,
        (DELETED, "==", False),
        (format_state_path(job), "==", str(State.DONE)),
        _match_any(format_fingerprint_path(job), fingerprints),
    )


def _match_any(path: str, values: Sequence[str] | Sequence[bool]) -> tuple[str, str, Any]:
    """Build a condition: the field has one of some values."""
    return (path, "==", values[0]) if len(values) == 1 else (path, "in", list(values))


def _select(client: Client, *conditions: tuple[str, str, Any]) -> FirestoreQuery:
    from google.cloud.firestore import And, FieldFilter

    return client.collection(COLLECTION).where(filter=And([FieldFilter(*c) for c in conditions]))
