"""Queries for the files on which jobs failed, are stale or are missing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.ledger_query import LedgerQuery
from segue.model.media_file import MediaFile
from segue.model.record import Failure, State
from segue.model.transitions import Result, arrive, claim, delete, settle
from segue_support.ledger import MemoryLedger

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = """
jobs:
  a: {{run: "m:f", needs: {{m: source}}, writes: application/json, version: {a}}}
  b: {{run: "m:f", needs: {{x: a}}, writes: application/json}}
  c: {{run: "m:f", needs: {{m: source}}, writes: application/json}}
"""
THEN, TODAY = (parse_graph(TEXT.format(a=version)) for version in (1, 2))


def recorded(name: str, graph, **states: State) -> Change:
    media = MediaFile(uri=f"gs://bucket/{name}", generation=1)

    def transition(_found):
        record, _ = arrive(None, media, NOW)
        record = claim(record, graph, states, owner="me", now=NOW, lease_s=9)
        error = Failure(kind="timeout", type="T", message="m")
        results = [
            Result(job=job, state=state, error=error if state is State.FAILED else None)
            for job, state in states.items()
        ]
        return settle(record, generation=1, owner="me", results=results)

    return Change(uri=media.uri, transition=transition)


@pytest.fixture
def ledger():
    ledger = MemoryLedger()
    done, failed = State.DONE, State.FAILED
    gone = recorded("7 gone", TODAY, a=failed)
    changes = [
        recorded("1 all", TODAY, a=done, b=done),
        recorded("2 old", THEN, a=done, b=done),
        recorded("3 half", TODAY, a=done),
        recorded("4 failed", TODAY, a=done, b=failed),
        recorded("5 twice", TODAY, a=failed, b=failed),
        recorded("6 beside", TODAY, c=failed),
        gone,
    ]
    ledger.change(changes)
    ledger.change([Change(uri=gone.uri, transition=lambda r: delete(r, r.media, NOW))])
    return ledger


@pytest.mark.parametrize(
    ("what", "targets", "found"),
    [
        ("failed", ("b",), ["4 failed", "5 twice"]),
        ("failed", ("b", "c"), ["4 failed", "5 twice", "6 beside"]),
        ("stale", ("b",), ["2 old"]),
        ("missing", ("b",), ["3 half", "6 beside"]),
        ("all", ("b",), ["1 all", "2 old", "3 half", "4 failed", "5 twice", "6 beside"]),
    ],
)
def test_only_what_lacks_something_is_found_and_once(ledger, what, targets, found):
    query = LedgerQuery(criterion=what, graph=TODAY, targets=targets)
    names = [r.uri.removeprefix("gs://bucket/") for r in query.records(ledger, "gs://bucket/")]
    assert names == found


def test_only_what_is_below_the_prefix_is_found(ledger):
    query = LedgerQuery(criterion="all", graph=TODAY, targets=("b",))
    assert [r.uri for r in query.records(ledger, "gs://bucket/3")] == ["gs://bucket/3 half"]
