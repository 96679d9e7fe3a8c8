"""The ledger's queries to Firestore; ``firestore_indexes`` has an index for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segue.adapters.firestore_indexes import COLLECTION, DELETED, DONE, OPEN, URI
from segue.model.ledger import find_prefix_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud.firestore import Client
    from google.cloud.firestore import Query as FirestoreQuery

    from segue.model.ledger import Query

ANY_VALUES = 30  # the most values that a query may look for in an array


def select_matching(
    client: Client, query: Query, *, after: str = "", limit: int | None = None
) -> FirestoreQuery:
    """Select the records that match a query and come after a URI, in the order of URIs.

    Counts are ordered, too: without it, Firestore would need an index with another last field.
    Tombstones have no terms, so a query for one names no value of ``deleted``.
    """
    conditions: list[tuple[str, str, Any]] = []
    if query.open is not None:
        conditions.append((OPEN, "array_contains", query.open))
    elif query.deleted is None:
        conditions.append((DELETED, "in", [False, True]))
    else:
        conditions.append((DELETED, "==", query.deleted))
    if query.prefix > after:
        conditions.append((URI, ">=", query.prefix))
    elif after:
        conditions.append((URI, ">", after))
    if end := find_prefix_end(query.prefix):
        conditions.append((URI, "<", end))
    selected = _select(client, *conditions).order_by(URI)
    return selected if limit is None else selected.limit(limit)


def select_done(client: Client, terms: Sequence[str]) -> FirestoreQuery:
    """Select the files with any of up to ``ANY_VALUES`` done terms, each once."""
    return _select(client, (DONE, "array_contains_any", list(terms)))


def _select(client: Client, *conditions: tuple[str, str, Any]) -> FirestoreQuery:
    from google.cloud.firestore import And, FieldFilter

    return client.collection(COLLECTION).where(filter=And([FieldFilter(*c) for c in conditions]))
