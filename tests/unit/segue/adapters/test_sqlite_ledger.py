"""What the embedded ledger costs: every query finds its files by an index, in order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.adapters.sqlite_ledger import SqliteLedger
from segue.model.ledger import Change, Query
from segue.model.record import PENDING, Entry, Record, State, evolve

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FINGERPRINT = "0" * 12


@pytest.fixture
def ledger():
    ledger = SqliteLedger(":memory:")
    record = Record(uri="", version="v1", order=1, arrived_at=NOW)
    for number, state in enumerate(State):
        entry = Entry(job="beats", state=state, order=1, notify=(".",))
        one = evolve(record, uri=f"file:///music/{number}.wav", results={FINGERPRINT: entry})
        ledger.change([Change(uri=one.uri, transition=lambda _, one=one: (one, None))])
    yield ledger
    ledger.close()


def explain(ledger, call) -> set[str]:
    """Return how SQLite runs the queries for files that a call makes."""
    statements: list[str] = []
    ledger._db.set_trace_callback(statements.append)
    call()
    ledger._db.set_trace_callback(None)
    return {
        row[3]
        for statement in statements
        if " FROM files" in statement
        for row in ledger._db.execute(f"EXPLAIN QUERY PLAN {statement}")
    }


@pytest.mark.parametrize("prefix", ["", "file:///music/"])
def test_files_with_a_term_are_found_by_signature_and_never_sorted(ledger, prefix):
    steps = explain(ledger, lambda: ledger.find(Query(open=PENDING, prefix=prefix), limit=2))
    assert len(steps) == 1
    assert "SEARCH files USING INDEX files_by_signature (signature=? AND deleted=? AND uri>?" in (
        steps.pop()
    )


@pytest.mark.parametrize("deleted", [None, False])
def test_all_files_are_found_by_uri_and_never_sorted(ledger, deleted):
    steps = explain(ledger, lambda: ledger.find(Query(deleted=deleted)))
    assert steps == {"SEARCH files USING PRIMARY KEY (uri>?)"}


def test_files_are_counted_by_the_index_alone(ledger):
    steps = explain(ledger, lambda: ledger.count({"beats": (FINGERPRINT,)}))
    assert "SCAN files USING COVERING INDEX files_by_signature" in steps
