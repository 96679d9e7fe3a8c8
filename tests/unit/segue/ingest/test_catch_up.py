"""What is requested of files that are known, and what is left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.errors import Unavailable
from segue.ingest.catalogue import MediaFilter
from segue.ingest.catch_up import CatchUp
from segue.model.graph import parse_graph
from segue.model.message import decode_message
from segue.model.record import NOBODY, Entry, Failure, Lease, Record, State
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD = "0" * 12
GRAPH = parse_graph(
    """
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
  c: {run: "m:f", needs: {x: a}, writes: application/json, on_arrival: false}
"""
)
FAILURE = Failure(kind="timeout", type="JobTimeout", message="m")


def entry(job: str, state: State = State.DONE, **more: object) -> Entry:
    return Entry(**{"job": job, "state": state, "order": 5, "attempts": 1, **more})  # type: ignore[arg-type]


def record(*entries: Entry, name: str = "a.wav", old: Entry | None = None) -> Record:
    results = {GRAPH.fingerprints[e.job]: e for e in entries}
    return Record(
        uri=f"gs://music/{name}",
        version="5",
        order=5,
        arrived_at=NOW,
        results=results if old is None else {**results, OLD: old},
    )


class Attempt:
    """A catch-up over some records, with what it published."""

    def __init__(self, *records: Record, page: int = 2, queue: MemoryQueue | None = None) -> None:
        self.ledger = MemoryLedger(records)
        self.queue = queue or MemoryQueue()
        self.catch_up = CatchUp(
            graph=GRAPH,
            ledger=self.ledger,
            queue=self.queue,
            media_filter=MediaFilter(catalogue="gs://music/", include=("*.wav",)),
            prefix="gs://music/",
            clock=lambda: NOW,
            lost=lambda _lease: False,
            page=page,
        )

    def run(self) -> int:
        """Request all pages; return of how many files something was requested."""
        files, page = 0, self.catch_up.request_page()
        while page is not None:
            files, page = files + page.files, self.catch_up.request_page(page.last)
        return files

    @property
    def asked(self) -> list[tuple[str, str, tuple[str, ...]]]:
        sent = [(e.topic, decode_message(e.data)) for e in self.queue.queued.values()]
        return [(topic, m.uri.removeprefix("gs://music/"), m.targets) for topic, m in sent]

    def states(self, name: str = "a.wav") -> dict[str, State]:
        found = self.ledger.read([f"gs://music/{name}"])[0].record
        assert found is not None
        return {e.job: e.state for f, e in found.results.items() if f != OLD}


def test_what_is_missing_is_wanted_and_requested_of_the_pipeline_that_can_begin():
    attempt = Attempt(record(), record(entry("a"), name="b.wav"))
    assert attempt.run() == 2
    assert attempt.asked == [
        ("inbox-a", "a.wav", ("a", "b")),
        ("inbox-b", "b.wav", ("a", "b")),
    ]
    assert attempt.states() == {"a": State.QUEUED, "b": State.QUEUED}


def test_what_is_stale_is_requested():
    attempt = Attempt(record(entry("b"), old=entry("a")))
    assert attempt.run() == 1
    assert [topic for topic, _, _ in attempt.asked] == ["inbox-a"]


def test_jobs_on_request_only_are_not_requested():
    attempt = Attempt(record(entry("a"), entry("b")))
    assert attempt.run() == 0
    assert attempt.states() == {"a": State.DONE, "b": State.DONE}


@pytest.mark.parametrize("state", [State.FAILED, State.NOT_APPLICABLE])
def test_what_failed_for_good_is_left_alone_and_what_is_below_says_why(state):
    attempt = Attempt(record(entry("a", state, error=FAILURE)))
    assert attempt.run() == 0
    below = State.BLOCKED if state is State.FAILED else state
    assert attempt.states() == {"a": state, "b": below}
    assert attempt.asked == []


def test_a_second_start_requests_nothing_more():
    records = [record(name=f"{i}.wav") for i in range(5)]
    attempt = Attempt(*records)
    assert attempt.run() == 5
    asked = attempt.asked
    assert attempt.run() == 0
    assert attempt.asked == asked


def test_what_another_process_computes_is_not_requested():
    lease = Lease(owner="backfill", expires_at=NOW + timedelta(minutes=5))
    attempt = Attempt(record(entry("a", State.RUNNING, lease=lease)))
    assert attempt.run() == 0
    assert attempt.states()["b"] is State.QUEUED  # whoever finishes the first goes on with it


def test_other_files_and_deleted_ones_are_left_alone():
    deleted = record(name="c.wav")
    deleted = Record(
        uri=deleted.uri, version="5", order=5, arrived_at=NOW, deleted_at=NOW, results={}
    )
    elsewhere = Record(uri="gs://other/a.wav", version="5", order=5, arrived_at=NOW)
    attempt = Attempt(record(name="a.txt"), deleted, elsewhere)
    assert attempt.run() == 0
    assert attempt.asked == []


def test_if_nothing_can_be_published_it_is_wanted_and_the_sweep_sends_it():
    class Away(MemoryQueue):
        def publish(self, _envelopes):
            raise Unavailable("no server")

    attempt = Attempt(record(), queue=Away())
    with pytest.raises(Unavailable):
        attempt.run()
    found = attempt.ledger.read(["gs://music/a.wav"])[0].record
    assert {e.notify for e in found.results.values()} == {(NOBODY,)}
