"""What a sweep finds lying, and what it leaves alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.errors import Unavailable
from segue.ingest.sweep import GRACE_S, PAGE, Sweeper, SweepResult
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.message import Message, decode_message
from segue.model.record import EVERYTHING, Entry, Lease, Record, State
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG_AGO = NOW - timedelta(seconds=GRACE_S)
LATELY = NOW - timedelta(seconds=GRACE_S - 1)
GRAPH = parse_graph(
    """
jobs:
  a: {run: "m:f", needs: {media: source}, writes: audio/flac}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
"""
)


def entry(state: State = State.DONE, **more: object) -> Entry:
    return Entry(
        **{"state": state, "fingerprint": GRAPH.fingerprints["a"], "generation": 5, **more}  # type: ignore[arg-type]
    )


def record(name: str = "a.wav", **jobs: Entry) -> Record:
    return Record(uri=f"gs://music/{name}", generation=5, arrived_at=NOW, jobs=jobs)


def lease(expires_at: datetime) -> Lease:
    return Lease(owner="somebody", expires_at=expires_at)


class Sweep:
    """A sweeper of some records, with what it published."""

    def __init__(self, *records: Record, queue: MemoryQueue | None = None) -> None:
        self.ledger = MemoryLedger(records)
        self.queue = queue or MemoryQueue()
        self.now = NOW
        self.sweeper = Sweeper(
            graph=GRAPH,
            ledger=self.ledger,
            queue=self.queue,
            clock=lambda: self.now,
            lost=lambda _lease: False,
        )

    @property
    def messages(self) -> list[Message]:
        return [decode_message(envelope.data) for envelope in self.queue.queued.values()]


def test_targets_that_are_pending_for_long_are_published_again():
    swept = Sweep(record(a=entry(pending_targets=("b",), pending_at=LONG_AGO)))
    assert swept.sweeper.run() == SweepResult(files=1, pending=1)
    assert swept.messages == [
        Message(uri="gs://music/a.wav", generation=5, job="a", targets=("b",), lane="requests")
    ]


def test_everything_that_is_pending_is_published_top_down():
    swept = Sweep(record(a=entry(pending_targets=("b", EVERYTHING), pending_at=LONG_AGO)))
    swept.sweeper.run()
    assert [m.targets for m in swept.messages] == [None]


def test_a_lease_that_expired_long_ago_is_asked_for_again():
    swept = Sweep(record(a=entry(State.RUNNING, lease=lease(LONG_AGO))))
    assert swept.sweeper.run() == SweepResult(files=1, expired=1)
    assert [(m.job, m.targets) for m in swept.messages] == [("a", ("a",))]


@pytest.mark.parametrize(
    "left_alone",
    [
        entry(),
        entry(State.FAILED),
        entry(pending_targets=("b",), pending_at=LATELY),
        entry(
            State.RUNNING,
            pending_targets=("b",),
            pending_at=LONG_AGO,
            lease=lease(NOW + timedelta(1)),
        ),
        entry(State.RUNNING, lease=lease(LATELY)),
        entry(State.RUNNING, lease=lease(NOW + timedelta(seconds=1))),
    ],
)
def test_what_is_merely_on_its_way_is_left_alone(left_alone):
    swept = Sweep(record(a=left_alone))
    assert swept.sweeper.run().messages == 0
    assert swept.messages == []


def test_a_job_that_left_the_graph_and_a_deleted_file_are_left_alone():
    gone = Record(
        uri="gs://music/b.wav",
        generation=5,
        arrived_at=NOW,
        deleted_at=NOW,
        jobs={"a": entry(pending_targets=("b",), pending_at=LONG_AGO)},
    )
    swept = Sweep(record(x=entry(pending_targets=("b",), pending_at=LONG_AGO)), gone)
    assert swept.sweeper.run().messages == 0


def test_a_second_run_leaves_alone_what_the_first_one_asked_for_until_the_grace_is_over():
    swept = Sweep(
        record("a.wav", a=entry(pending_targets=("b",), pending_at=LONG_AGO)),
        record("b.wav", a=entry(State.RUNNING, lease=lease(LONG_AGO))),
    )
    assert swept.sweeper.run().messages == 2
    assert swept.sweeper.run().messages == 0
    swept.now = NOW + timedelta(seconds=GRACE_S)
    # What had expired has itself as a target now, so it is pending.
    assert swept.sweeper.run() == SweepResult(files=3, pending=2)


def test_the_lease_of_a_process_that_is_known_to_be_dead_counts_as_expired():
    swept = Sweep(
        record(
            a=entry(
                State.RUNNING,
                pending_targets=("b",),
                pending_at=LONG_AGO,
                lease=lease(NOW + timedelta(seconds=60)),
            )
        )
    )
    swept.sweeper.lost = lambda _lease: True
    assert swept.sweeper.run() == SweepResult(files=2, pending=1)


def test_a_run_stops_at_its_limit_and_the_next_one_goes_on():
    files = [
        record(f"{i:04}.wav", a=entry(pending_targets=("b",), pending_at=LONG_AGO))
        for i in range(PAGE + 10)
    ]
    swept = Sweep(*files)
    first = swept.sweeper.run(limit=1)
    assert (first.pending, first.limited) == (PAGE, True)  # a page is published whole
    assert swept.sweeper.run(limit=PAGE) == SweepResult(files=10, pending=10)
    assert len({m.uri for m in swept.messages}) == len(files)


def test_whoever_only_looks_publishes_and_notes_nothing():
    swept = Sweep(record(a=entry(pending_targets=("b",), pending_at=LONG_AGO)))
    swept.sweeper.queue = None
    assert swept.sweeper.run().pending == 1
    assert swept.sweeper.run().pending == 1
    assert swept.messages == []


def test_what_could_not_be_published_is_not_noted_as_asked_for(monkeypatch):
    swept = Sweep(record(a=entry(pending_targets=("b",), pending_at=LONG_AGO)))

    def away(_envelopes):
        raise Unavailable("the queue is away; try again later")

    with monkeypatch.context() as patched:
        patched.setattr(swept.queue, "publish", away)
        with pytest.raises(Unavailable):
            swept.sweeper.run()
    assert swept.sweeper.run().pending == 1
    assert len(swept.messages) == 1


def test_what_changed_since_it_was_read_is_not_overwritten(monkeypatch):
    swept = Sweep(record(a=entry(pending_targets=("b",), pending_at=LONG_AGO)))
    newer = Record(uri="gs://music/a.wav", generation=6, arrived_at=NOW)
    publish = swept.queue.publish

    def overwritten_meanwhile(envelopes):
        publish(envelopes)
        swept.ledger.change([Change(uri=newer.uri, transition=lambda _: (newer, None))])

    monkeypatch.setattr(swept.queue, "publish", overwritten_meanwhile)
    swept.sweeper.run()
    assert swept.ledger.records[newer.uri] == newer
