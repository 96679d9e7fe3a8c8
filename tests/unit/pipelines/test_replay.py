"""What is tried again: what failed as asked, and what that blocks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipelines.replay import Choice, replay
from shared.record import Entry, Failure, Record, State
from shared.testing.ledger import MemoryLedger

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def entry(state: State, kind: str = "", cause: str = "") -> Entry:
    error = Failure(kind=kind, type=cause, message="") if kind else None
    return Entry(state=state, fingerprint="0" * 12, generation=1, attempts=3, error=error)


def record(uri: str = "file:///a", **jobs: Entry) -> Record:
    return Record(uri=uri, generation=1, arrived_at=NOW, jobs=jobs)


def blocked(cause: str) -> Entry:
    return entry(State.BLOCKED, "blocked", cause)


MANY = record(
    load=entry(State.FAILED, "timeout"),
    beats=blocked("load"),
    energy=blocked("load"),
    key=entry(State.FAILED, "crashed"),
    chords=blocked("key"),
    picture=entry(State.DONE),
)
ALL = ("load", "beats", "energy", "key", "chords", "picture")


@pytest.mark.parametrize(
    ("jobs", "kinds", "chosen"),
    [
        (ALL, (), {"load", "beats", "energy", "key", "chords"}),
        (ALL, ("timeout",), {"load", "beats", "energy"}),
        (("key",), (), {"key", "chords"}),
        (("energy",), (), {"load", "beats", "energy"}),
        (("energy",), ("crashed",), set()),
        (("picture",), (), set()),
    ],
)
def test_failures_are_chosen_with_all_that_they_block(jobs, kinds, chosen):
    assert set(Choice(jobs=jobs, kinds=frozenset(kinds)).of(MANY)) == chosen


def test_what_is_blocked_by_something_mended_is_chosen_too():
    mended = record(load=entry(State.DONE), beats=blocked("load"))
    assert Choice(jobs=ALL).of(mended) == ("beats",)
    assert Choice(jobs=ALL, kinds=frozenset({"timeout"})).of(mended) == ()


def test_a_deleted_file_is_not_tried_again():
    assert Choice(jobs=ALL).of(Record(**{**_fields(MANY), "deleted_at": NOW})) == ()


def _fields(found: Record) -> dict:
    return {name: getattr(found, name) for name in found.__struct_fields__}


def test_a_file_with_several_failures_is_counted_once():
    ledger = MemoryLedger([MANY, record("file:///b", key=entry(State.FAILED, "crashed"))])
    counted = replay(ledger, Choice(jobs=ALL), dry_run=True)
    assert (counted.files, counted.jobs) == (2, 6)
    assert dict(counted.failed) == {"load": 1, "key": 2}
    assert ledger.records[MANY.uri] is MANY
    assert replay(ledger, Choice(jobs=ALL), dry_run=False) == counted
    states = {j: e.state for j, e in ledger.records[MANY.uri].jobs.items()}
    assert states.pop("picture") is State.DONE
    assert set(states.values()) == {State.QUEUED}
    assert replay(ledger, Choice(jobs=ALL), dry_run=False).jobs == 0


def test_many_files_are_queued_in_batches():
    many = [record(f"file:///{n:04}", key=entry(State.FAILED, "crashed")) for n in range(600)]
    ledger = MemoryLedger(many)
    assert replay(ledger, Choice(jobs=ALL), dry_run=False).files == 600


def test_what_was_mended_since_the_look_is_not_counted():
    class Moving(MemoryLedger):
        def change(self, changes):
            for uri in list(self.records):
                self._snapshots.pop(uri)
            return super().change(changes)

    assert replay(Moving([MANY]), Choice(jobs=ALL), dry_run=False).jobs == 0
