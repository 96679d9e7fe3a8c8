"""Selected failures are retried, and the jobs that they block."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.errors import Unavailable
from segue.maintenance.retry import JobRetry, RetrySelection
from segue.model.graph import SOURCE, Graph, Job
from segue.model.message import decode_message
from segue.model.record import Entry, Failure, Record, State
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

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
GRAPH = Graph(
    jobs={
        name: Job(name=name, run="m:f", needs={"x": above}, writes="application/json")
        for name, above in {
            "load": SOURCE,
            "key": SOURCE,
            "picture": SOURCE,
            "beats": "load",
            "energy": "beats",
            "chords": "key",
        }.items()
    }
)
ALL = ("load", "beats", "energy", "key", "chords", "picture")


@pytest.mark.parametrize(
    ("jobs", "kinds", "selected"),
    [
        (ALL, (), {"load", "beats", "energy", "key", "chords"}),
        (ALL, ("timeout",), {"load", "beats", "energy"}),
        (("key",), (), {"key", "chords"}),
        (("energy",), (), {"load", "beats", "energy"}),
        (("energy",), ("crashed",), set()),
        (("picture",), (), set()),
    ],
)
def test_failures_are_selected_with_all_that_they_block(jobs, kinds, selected):
    assert set(RetrySelection(jobs=jobs, kinds=frozenset(kinds)).find_jobs(MANY)) == selected


def test_a_job_blocked_by_a_repaired_one_is_selected_too():
    repaired = record(load=entry(State.DONE), beats=blocked("load"))
    assert RetrySelection(jobs=ALL).find_jobs(repaired) == ("beats",)
    assert RetrySelection(jobs=ALL, kinds=frozenset({"timeout"})).find_jobs(repaired) == ()


def test_a_deleted_file_is_not_tried_again():
    assert RetrySelection(jobs=ALL).find_jobs(Record(**{**_fields(MANY), "deleted_at": NOW})) == ()


def _fields(found: Record) -> dict:
    return {name: getattr(found, name) for name in found.__struct_fields__}


def test_a_file_with_several_failures_is_counted_once():
    ledger = MemoryLedger([MANY, record("file:///b", key=entry(State.FAILED, "crashed"))])
    counted = replay(ledger).count()
    assert (counted.files, counted.jobs) == (2, 6)
    assert dict(counted.failed) == {"load": 1, "key": 2}
    assert ledger.records[MANY.uri] is MANY
    assert replay(ledger).run() == counted
    states = {j: e.state for j, e in ledger.records[MANY.uri].jobs.items()}
    assert states.pop("picture") is State.DONE
    assert set(states.values()) == {State.QUEUED}
    assert replay(ledger).run().jobs == 0


def test_many_files_are_queued_in_batches():
    many = [record(f"file:///{n:04}", key=entry(State.FAILED, "crashed")) for n in range(600)]
    ledger = MemoryLedger(many)
    assert replay(ledger).run().files == 600


def test_a_job_repaired_since_the_count_is_not_counted():
    class Moving(MemoryLedger):
        def change(self, changes):
            for uri in list(self.records):
                self._snapshots.pop(uri)
            return super().change(changes)

    assert replay(Moving([MANY])).run().jobs == 0


def replay(ledger: MemoryLedger, queue: MemoryQueue | None = None) -> JobRetry:
    selection = RetrySelection(jobs=ALL)
    return JobRetry(graph=GRAPH, ledger=ledger, selection=selection, queue=queue, clock=lambda: NOW)


def test_the_topmost_retried_job_is_notified_with_all_targets():
    ledger, queue = MemoryLedger([MANY]), MemoryQueue()
    replay(ledger, queue).run()
    envelopes = queue.pull(["load-requests", "key-requests"], limit=9)
    messages = {m.job: m for m in (decode_message(one.data) for one in envelopes)}
    assert messages["load"].targets == ("load", "beats", "energy")
    assert messages["key"].targets == ("key", "chords")
    assert queue.measure_depth(["beats-requests", "energy-requests", "chords-requests"]) == {
        "beats-requests": 0,
        "energy-requests": 0,
        "chords-requests": 0,
    }
    kept = ledger.records[MANY.uri].jobs
    assert (kept["load"].pending_targets, kept["load"].pending_at) == (
        ("load", "beats", "energy"),
        NOW,
    )
    assert kept["beats"].pending_targets == ()


def test_what_could_not_be_published_is_left_for_the_sweeper():
    class Away(MemoryQueue):
        def publish(self, envelopes):
            raise Unavailable("away")

    ledger = MemoryLedger([MANY])
    with pytest.raises(Unavailable):
        replay(ledger, Away()).run()
    assert ledger.records[MANY.uri].jobs["key"].pending_targets == ("key", "chords")
