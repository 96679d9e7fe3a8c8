"""What a sweep asks for again, and what it leaves alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.errors import Unavailable
from segue.ingest.sweep import GRACE_S, PAGE, Sweeper, SweepResult
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.message import Message, decode_message
from segue.model.record import EVERYONE, NOBODY, Entry, Failure, Lease, Record, State, evolve
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG_AGO = NOW - timedelta(seconds=GRACE_S)
LATELY = NOW - timedelta(seconds=GRACE_S - 1)
OLD = "0" * 12
GRAPH = parse_graph(
    """
namespace: team
pipelines: {rest: [b, c]}
jobs:
  a: {run: "m:f", needs: {media: source}, writes: audio/flac}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
  c: {run: "m:f", needs: {x: a}, writes: application/json}
  d: {run: "m:f", needs: {x: b}, writes: application/json}
"""
)
FAILURE = Failure(kind="timeout", type="JobTimeout", message="m")


def entry(job: str, state: State = State.DONE, **more: object) -> Entry:
    return Entry(**{"job": job, "state": state, "order": 5, "attempts": 1, **more})  # type: ignore[arg-type]


def wanted(job: str, since: datetime = LONG_AGO, whom: str = NOBODY, **more: object) -> Entry:
    """A result that is wanted, and that nobody works on."""
    return entry(job, **{"state": State.QUEUED, "notify": (whom,), "notify_at": since, **more})


def running(job: str, expires_at: datetime, **more: object) -> Entry:
    lease = Lease(owner="somebody", expires_at=expires_at)
    return entry(job, State.RUNNING, lease=lease, **more)


def record(*entries: Entry, name: str = "a.wav", old: Entry | None = None) -> Record:
    results = {GRAPH.fingerprints.get(e.job, e.job): e for e in entries}
    return Record(
        uri=f"gs://music/{name}",
        version="5",
        order=5,
        arrived_at=NOW,
        results=results if old is None else {**results, OLD: old},
    )


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
    def asked(self) -> list[tuple[str, tuple[str, ...]]]:
        """The topics of the messages, and their targets."""
        sent = self.queue.queued.values()
        return [(one.topic, decode_message(one.data).targets) for one in sent]

    def entry(self, job: str, name: str = "a.wav") -> Entry | None:
        results = self.ledger.records[f"gs://music/{name}"].results
        return results.get(GRAPH.fingerprints[job])


def test_what_is_wanted_for_long_is_asked_for_again():
    swept = Sweep(record(entry("a"), wanted("b")))
    assert swept.sweeper.run() == SweepResult(files=1, pending=1)
    [envelope] = swept.queue.queued.values()
    assert decode_message(envelope.data) == Message(
        namespace="team",
        uri="gs://music/a.wav",
        version="5",
        order=5,
        targets=("b",),
    )
    assert envelope.topic == "inbox-rest"
    assert swept.entry("b") == wanted("b", NOW)


def test_the_pipelines_that_can_run_something_for_it_are_asked():
    swept = Sweep(record(wanted("d"), wanted("c")))
    swept.sweeper.run()
    assert swept.asked == [("inbox-a", ("c", "d"))]
    assert swept.entry("a") is None


def test_of_a_file_only_what_is_wanted_for_long_is_asked_for():
    swept = Sweep(record(entry("a"), wanted("b"), wanted("c", LATELY)))
    swept.sweeper.run()
    assert swept.asked == [("inbox-rest", ("b",))]
    assert (swept.entry("b").notify_at, swept.entry("c").notify_at) == (NOW, LATELY)


@pytest.mark.parametrize(
    "finished",
    [
        entry("a", notify=(EVERYONE,), notify_at=LONG_AGO),
        entry("a", State.FAILED, error=FAILURE, notify=(EVERYONE,), notify_at=LONG_AGO),
    ],
)
def test_a_finished_result_whose_dependents_were_never_notified_is_asked_for(finished):
    """Its pipeline then notifies them."""
    swept = Sweep(record(finished))
    assert swept.sweeper.run() == SweepResult(files=1, pending=1)
    assert swept.asked == [("inbox-a", ("a",))]
    assert swept.entry("a") == evolve(finished, notify_at=NOW)


def test_the_work_of_an_expired_lease_is_wanted_and_asked_for():
    swept = Sweep(record(running("a", LONG_AGO)))
    assert swept.sweeper.run() == SweepResult(files=1, expired=1)
    assert swept.asked == [("inbox-a", ("a",))]
    assert swept.entry("a") == running("a", LONG_AGO, notify=(NOBODY,), notify_at=NOW)


def test_a_file_with_work_of_both_kinds_is_asked_for_once():
    swept = Sweep(record(running("a", LONG_AGO), wanted("b")))
    assert swept.sweeper.run() == SweepResult(files=1, pending=1)
    assert swept.asked == [("inbox-a", ("a", "b"))]


@pytest.mark.parametrize(
    "left_alone",
    [
        entry("a"),
        entry("a", State.FAILED, error=FAILURE),
        wanted("a", LATELY),
        running("a", NOW + timedelta(1), notify=(NOBODY,), notify_at=LONG_AGO),
        running("a", LATELY),
        running("a", NOW + timedelta(seconds=1)),
        entry("a", notify=(EVERYONE,), notify_at=LATELY),
    ],
)
def test_what_may_still_be_on_its_way_is_left_alone(left_alone):
    before = record(left_alone)
    swept = Sweep(before)
    assert swept.sweeper.run().messages == 0
    assert swept.asked == []
    assert swept.ledger.records[before.uri] is before


def test_what_waits_for_a_job_that_is_being_computed_is_left_alone():
    before = record(running("a", NOW + timedelta(1)), wanted("b"))
    swept = Sweep(before)
    assert swept.sweeper.run().messages == 0
    assert swept.ledger.records[before.uri] is before


def test_a_job_that_left_the_graph_and_a_deleted_file_are_left_alone():
    gone = evolve(record(wanted("a"), name="b.wav"), deleted_at=NOW)
    swept = Sweep(record(wanted("x"), running("y", LONG_AGO)), gone)
    assert swept.sweeper.run().messages == 0


def test_what_is_wanted_below_a_failed_job_is_recorded_as_blocked():
    """A parent that a new graph added may have failed before."""
    swept = Sweep(record(entry("a", State.FAILED, error=FAILURE), wanted("b")))
    assert swept.sweeper.run().messages == 0
    assert (swept.entry("b").state, swept.entry("b").notify) == (State.BLOCKED, ())
    assert swept.sweeper.run() == SweepResult()


def test_whoever_waits_for_a_result_that_is_blocked_is_told_by_its_pipeline():
    failed = entry("a", State.FAILED, error=FAILURE)
    swept = Sweep(record(failed, wanted("b", whom=EVERYONE)))
    swept.sweeper.run()
    assert swept.asked == [("inbox-rest", ("b",))]
    assert (swept.entry("b").state, swept.entry("b").notify) == (State.BLOCKED, (EVERYONE,))


@pytest.mark.parametrize("old", [wanted("a"), running("a", LONG_AGO)])
def test_what_an_old_fingerprint_has_left_is_asked_for_under_the_present_one(old):
    swept = Sweep(record(old=old))
    swept.sweeper.run()
    assert swept.asked == [("inbox-a", ("a",))]
    assert swept.entry("a") == wanted("a", NOW, attempts=0)
    assert OLD not in swept.ledger.records["gs://music/a.wav"].results
    assert swept.sweeper.run().messages == 0


def test_what_is_current_since_another_deployment_computed_it_is_not_asked_for():
    swept = Sweep(record(entry("a"), old=wanted("a")))
    assert swept.sweeper.run().messages == 0
    assert swept.ledger.records["gs://music/a.wav"] == record(entry("a"))


def of_removed_job(state: State = State.QUEUED, **more: object) -> Entry:
    return entry("removed", state, **more)


DAY_AGO = NOW - timedelta(days=1)


@pytest.mark.parametrize(
    "left",
    [
        of_removed_job(notify=(NOBODY,), notify_at=DAY_AGO),
        of_removed_job(State.RUNNING, lease=Lease(owner="gone", expires_at=DAY_AGO)),
    ],
)
def test_what_is_wanted_of_a_job_that_was_removed_is_forgotten_after_a_day(left):
    lately = evolve(record(old=left), arrived_at=DAY_AGO + timedelta(seconds=1))
    assert Sweep(lately).sweeper.run() == SweepResult(files=1)
    swept = Sweep(evolve(lately, arrived_at=DAY_AGO))
    assert swept.sweeper.run() == SweepResult(files=1)
    assert swept.ledger.records[lately.uri].results == {}
    assert swept.sweeper.run() == SweepResult()


@pytest.mark.parametrize(
    "more",
    [
        {"notify_at": DAY_AGO + timedelta(seconds=1)},
        {"lease": Lease(owner="alive", expires_at=NOW), "state": State.RUNNING},
    ],
)
def test_what_another_deployment_may_still_want_stays(more):
    left = of_removed_job(**{"notify": (NOBODY,), "notify_at": DAY_AGO, **more})
    found = evolve(record(old=left), arrived_at=DAY_AGO)
    swept = Sweep(found)
    swept.sweeper.run()
    assert swept.ledger.records[found.uri] is found


def test_results_of_a_job_that_was_removed_stay():
    left = of_removed_job(State.DONE, notify=(EVERYONE,), notify_at=DAY_AGO)
    swept = Sweep(evolve(record(entry("a"), wanted("b"), old=left), arrived_at=DAY_AGO))
    assert swept.sweeper.run() == SweepResult(files=1, pending=1)
    kept = swept.ledger.records["gs://music/a.wav"].results[OLD]
    assert kept == evolve(left, notify=(), notify_at=None)


def test_a_second_run_leaves_alone_what_the_first_one_asked_for_until_the_grace_is_over():
    swept = Sweep(
        record(entry("a"), wanted("b"), name="a.wav"),
        record(running("a", LONG_AGO), name="b.wav"),
    )
    assert swept.sweeper.run() == SweepResult(files=2, pending=1, expired=1)
    assert swept.sweeper.run() == SweepResult(files=2)
    swept.now = NOW + timedelta(seconds=GRACE_S)
    assert swept.sweeper.run() == SweepResult(files=2, pending=2)  # what had expired is wanted


def test_the_lease_of_a_process_that_is_known_to_be_dead_counts_as_expired():
    expires_at = NOW + timedelta(seconds=60)
    swept = Sweep(record(running("a", expires_at, notify=(NOBODY,), notify_at=LONG_AGO)))
    swept.sweeper.lost = lambda _lease: True
    assert swept.sweeper.run() == SweepResult(files=1, pending=1)


def test_a_run_stops_at_its_limit_and_the_next_one_goes_on():
    files = [record(wanted("a"), name=f"{i:04}.wav") for i in range(PAGE + 10)]
    swept = Sweep(*files)
    first = swept.sweeper.run(limit=1)
    assert (first.pending, first.limited) == (PAGE, True)  # a page is published whole
    assert swept.sweeper.run(limit=PAGE) == SweepResult(files=10, pending=10)
    uris = {decode_message(envelope.data).uri for envelope in swept.queue.queued.values()}
    assert len(uris) == len(files)


def test_a_run_stops_at_its_limit_of_expired_leases_too():
    swept = Sweep(*(record(running("a", LONG_AGO), name=f"{i:04}.wav") for i in range(PAGE + 1)))
    first = swept.sweeper.run(limit=PAGE)
    assert (first.expired, first.limited) == (PAGE, True)
    assert swept.sweeper.run() == SweepResult(files=PAGE + 1, expired=1)


def test_a_dry_run_publishes_and_records_nothing():
    files = (record(wanted("a"), running("b", LONG_AGO)), record(running("a", LONG_AGO), name="b"))
    swept = Sweep(*files)
    swept.sweeper.queue = None
    for _ in range(2):
        assert swept.sweeper.run() == SweepResult(files=2, pending=1, expired=1)
    assert swept.asked == []
    assert list(swept.ledger.records.values()) == list(files)


def test_what_could_not_be_published_is_not_recorded_as_asked_for(monkeypatch):
    swept = Sweep(record(wanted("a")))

    def away(_envelopes):
        raise Unavailable("the queue is away; try again later")

    with monkeypatch.context() as patched:
        patched.setattr(swept.queue, "publish", away)
        with pytest.raises(Unavailable):
            swept.sweeper.run()
    assert swept.sweeper.run().pending == 1
    assert len(swept.asked) == 1


@pytest.mark.parametrize(
    "meanwhile",
    [
        Record(uri="gs://music/a.wav", version="6", order=6, arrived_at=NOW),
        record(entry("a")),
        record(entry("a", notify=(EVERYONE,), notify_at=LONG_AGO)),  # its worker will notify
        record(running("a", NOW + timedelta(1), notify=(NOBODY,), notify_at=NOW)),
        evolve(record(wanted("a")), deleted_at=NOW),
    ],
)
def test_what_changed_since_it_was_read_is_not_overwritten(monkeypatch, meanwhile):
    swept = Sweep(record(wanted("a")))
    publish = swept.queue.publish

    def changed_meanwhile(envelopes):
        publish(envelopes)
        swept.ledger.change([Change(uri=meanwhile.uri, transition=lambda _: (meanwhile, None))])

    monkeypatch.setattr(swept.queue, "publish", changed_meanwhile)
    swept.sweeper.run()
    assert swept.ledger.records[meanwhile.uri] is meanwhile
