"""What the ledger asks Firestore; ``firestore_indexes`` has an index for each of the queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segue.adapters.firestore_indexes import COLLECTION, fingerprint_path, state_path
from segue.adapters.firestore_values import DELETED, OWED
from segue.model.record import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segue.model.ledger import Query

IN_VALUES = 30  # that a query may compare one field with


def matching(query: Query, *, after: str, limit: int) -> dict[str, Any]:
    """All records that fit, by URI, from behind a URI."""
    filters = [_is(DELETED, [False, True] if query.deleted is None else [query.deleted])]
    if query.owed:
        filters.append(_is(OWED, [True]))
    if query.job is not None:
        states = list(State) if query.state is None else [query.state]
        filters.append(_is(state_path(query.job), states))
    if query.prefix > after:
        filters.append(_where("uri", "GREATER_THAN_OR_EQUAL", _value(query.prefix)))
    elif after:
        filters.append(_where("uri", "GREATER_THAN", _value(after)))
    if end := behind(query.prefix):
        filters.append(_where("uri", "LESS_THAN", _value(end)))
    return {**_structured(filters), "order_by": BY_URI, "limit": {"value": limit}}


def files(*, deleted: bool) -> dict[str, Any]:
    """All files, or all tombstones."""
    return {**_structured([_is(DELETED, [deleted])]), "order_by": BY_URI}


def in_state(job: str, state: State) -> dict[str, Any]:
    """All files with a job in a state."""
    filters = [_is(DELETED, [False]), _is(state_path(job), [state])]
    return {**_structured(filters), "order_by": BY_URI}


def done_by(job: str, fingerprints: Sequence[str]) -> dict[str, Any]:
    """All files with a job done by one of up to ``IN_VALUES`` fingerprints."""
    done = [_is(DELETED, [False]), _is(state_path(job), [State.DONE])]
    return _structured([*done, _is(fingerprint_path(job), fingerprints)])


def behind(prefix: str) -> str | None:
    """Return the first text behind all that start with a prefix; UTF-8 sorts as code points do."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            following = 0xE000 if last == 0xD7FF else last + 1  # surrogates are no characters
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


# A count is in this order, too: without one, Firestore would want an index that ends elsewhere.
BY_URI = [{"field": {"field_path": "uri"}, "direction": "ASCENDING"}]


def _structured(filters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "from_": [{"collection_id": COLLECTION}],
        "where": {"composite_filter": {"op": "AND", "filters": list(filters)}},
    }


def _is(path: str, values: Sequence[str] | Sequence[bool]) -> dict[str, Any]:
    """A filter: the field has one of some values."""
    if len(values) == 1:
        return _where(path, "EQUAL", _value(values[0]))
    return _where(path, "IN", {"array_value": {"values": [_value(v) for v in values]}})


def _where(path: str, op: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"field_filter": {"field": {"field_path": path}, "op": op, "value": value}}


def _value(value: str | bool) -> dict[str, Any]:
    return {"boolean_value": value} if isinstance(value, bool) else {"string_value": str(value)}
