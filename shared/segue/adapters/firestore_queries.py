"""The ledger's queries to Firestore; ``firestore_indexes`` has an index for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segue.adapters.firestore_indexes import COLLECTION, format_fingerprint_path, format_state_path
from segue.adapters.firestore_values import DELETED, PENDING
from segue.model.record import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segue.model.ledger import Query

IN_VALUES = 30  # the most values that a query may compare a field with


def select_matching(query: Query, *, after: str, limit: int) -> dict[str, Any]:
    """Select the records that match a query and come after a URI, in the order of URIs."""
    filters = [_match_any(DELETED, [False, True] if query.deleted is None else [query.deleted])]
    if query.pending:
        filters.append(_match_any(PENDING, [True]))
    if query.job is not None:
        states = list(State) if query.state is None else [query.state]
        filters.append(_match_any(format_state_path(query.job), states))
    if query.prefix > after:
        filters.append(_compare("uri", "GREATER_THAN_OR_EQUAL", _to_value(query.prefix)))
    elif after:
        filters.append(_compare("uri", "GREATER_THAN", _to_value(after)))
    if end := find_prefix_end(query.prefix):
        filters.append(_compare("uri", "LESS_THAN", _to_value(end)))
    return {**_build_query(filters), "order_by": BY_URI, "limit": {"value": limit}}


def select_files(*, deleted: bool) -> dict[str, Any]:
    """Select all files, or all tombstones."""
    return {**_build_query([_match_any(DELETED, [deleted])]), "order_by": BY_URI}


def select_in_state(job: str, state: State) -> dict[str, Any]:
    """Select all files with a job in a state."""
    filters = [_match_any(DELETED, [False]), _match_any(format_state_path(job), [state])]
    return {**_build_query(filters), "order_by": BY_URI}


def select_done_by(job: str, fingerprints: Sequence[str]) -> dict[str, Any]:
    """Select all files with a job done under one of up to ``IN_VALUES`` fingerprints."""
    done = [_match_any(DELETED, [False]), _match_any(format_state_path(job), [State.DONE])]
    return _build_query([*done, _match_any(format_fingerprint_path(job), fingerprints)])


def find_prefix_end(prefix: str) -> str | None:
    """Return the first text after all that start with a prefix; UTF-8 sorts like code points."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            following = 0xE000 if last == 0xD7FF else last + 1  # surrogates are not characters
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


# Counts use this order, too: without it, Firestore would need an index with another last field.
BY_URI = [{"field": {"field_path": "uri"}, "direction": "ASCENDING"}]


def _build_query(filters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "from_": [{"collection_id": COLLECTION}],
        "where": {"composite_filter": {"op": "AND", "filters": list(filters)}},
    }


def _match_any(path: str, values: Sequence[str] | Sequence[bool]) -> dict[str, Any]:
    """Build a filter: the field has one of some values."""
    if len(values) == 1:
        return _compare(path, "EQUAL", _to_value(values[0]))
    return _compare(path, "IN", {"array_value": {"values": [_to_value(v) for v in values]}})


def _compare(path: str, op: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"field_filter": {"field": {"field_path": path}, "op": op, "value": value}}


def _to_value(value: str | bool) -> dict[str, Any]:
    return {"boolean_value": value} if isinstance(value, bool) else {"string_value": str(value)}
