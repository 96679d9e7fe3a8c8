"""Selected failures are retried with the jobs that they block; dead letters are replayed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from segue.errors import Unavailable
from segue.maintenance.retry import DeadLetterReplay, JobRetry, RetrySelection
from segue.model import dead_letter
from segue.model.dead_letter import Stage
from segue.model.graph import SOURCE, Graph, Job
from segue.model.message import Message, decode_message, encode_message
from segue.model.queue import Envelope, list_topics
from segue.model.record import Entry, Failure, Record, State, evolve
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


LETTER_GRAPH = Graph(
    jobs={
        name: Job(name=name, run="m:f", needs={"x": above}, writes="application/json")
        for name, above in {"load": SOURCE, "beats": "load"}.items()
    }
)
MESSAGE = Message(uri="gs://b/a.wav", generation=1, job="load", attempt=5)


def failed_record() -> Record:
    failed = Entry(
        state=State.FAILED,
        fingerprint=LETTER_GRAPH.fingerprints["load"],
        generation=1,
        error=Failure(kind="timeout", type="JobTimeout", message="m"),
    )
    error = Failure(kind="blocked", type="load", message="m")
    blocked = evolve(failed, state=State.BLOCKED, error=error)
    return Record(
        uri=MESSAGE.uri, generation=1, arrived_at=NOW, jobs={"load": failed, "beats": blocked}
    )


def dead(job: str = "load", kind: str = "timeout", data: bytes | None = None) -> Envelope:
    return dead_letter.dead_letter_to_envelope(
        dead_letter.build_dead_letter(
            stage=Stage.RUN if data is None else Stage.DECODE,
            job=job,
            error=Failure(kind=kind, type="JobTimeout", message="too slow"),
            data=encode_message(MESSAGE) if data is None else data,
            uri=MESSAGE.uri if data is None else None,
            generation=1 if data is None else None,
            at=NOW,
        )
    )


def build_replay(ledger: MemoryLedger, queue: MemoryQueue, **selected: object) -> DeadLetterReplay:
    selection = RetrySelection(**{"jobs": ("load", "beats"), **selected})
    return DeadLetterReplay(
        graph=LETTER_GRAPH,
        ledger=ledger,
        queue=queue,
        selection=selection,
        clock=lambda: NOW,
        wait_s=0,
    )


def test_counting_changes_nothing():
    ledger, queue = MemoryLedger([failed_record()]), MemoryQueue()
    queue.publish([dead(), dead(kind="crashed")])
    found = build_replay(ledger, queue).run(dry_run=True)
    assert dict(found.found) == {("load", "run", "timeout"): 1, ("load", "run", "crashed"): 1}
    assert len(queue.pull(["load-dead"], limit=9)) == 2
    assert ledger.records[MESSAGE.uri] == failed_record()


def test_a_failure_is_reset_and_its_message_published_again():
    ledger, queue = MemoryLedger([failed_record()]), MemoryQueue()
    queue.publish([dead()])
    assert build_replay(ledger, queue).run(dry_run=False).total == 1
    assert queue.measure_depth(["load-dead"]) == {"load-dead": 0}
    (one,) = queue.pull(list_topics(LETTER_GRAPH), limit=9)
    assert decode_message(one.data) == evolve(MESSAGE, attempt=1)
    jobs = ledger.records[MESSAGE.uri].jobs
    assert {job: e.state for job, e in jobs.items()} == dict.fromkeys(jobs, State.QUEUED)
    assert jobs["load"].pending_targets == ("*",)


def test_only_selected_letters_are_sent_again():
    ledger, queue = MemoryLedger([failed_record()]), MemoryQueue()
    queue.publish([dead(), dead(kind="crashed")])
    kinds = frozenset({"crashed"})
    assert build_replay(ledger, queue, kinds=kinds).run(dry_run=False).total == 1
    (left,) = queue.pull(["load-dead"], limit=9)
    assert dead_letter.decode_dead_letter(left.data).kind == "timeout"
    for prefix in ("gs://other/", MESSAGE.uri[:-1], f"{MESSAGE.uri}/"):
        assert build_replay(ledger, queue, prefix=prefix).run(dry_run=False).total == 0


class FailsAtOnce(MemoryQueue):
    """A queue whose pipelines work at once, and put aside again whatever they are given."""

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        again = [dead() for one in envelopes if not one.topic.endswith("-dead")]
        super().publish([*envelopes, *again])


def test_a_message_that_fails_again_at_once_is_sent_once():
    ledger, queue = MemoryLedger([failed_record()]), FailsAtOnce()
    queue.publish([dead()])
    again = build_replay(ledger, queue)
    found = again.run(dry_run=True)
    assert again.run(dry_run=False, only=found.ids).total == 1
    assert queue.measure_depth(["load-dead", "load-live"]) == {"load-dead": 1, "load-live": 1}


def test_unreadable_bytes_go_back_to_the_topic_that_they_came_on():
    ledger, queue = MemoryLedger(), MemoryQueue()
    queue.publish([dead(kind="unreadable_message", data=b"\xff{")])
    assert build_replay(ledger, queue).run(dry_run=False).total == 1
    (one,) = queue.pull(["load-requests"], limit=9)
    assert one.data == b"\xff{"


def test_foreign_messages_are_left_alone():
    ledger, queue = MemoryLedger(), MemoryQueue()
    queue.publish([Envelope(topic="load-dead", data=b"hello")])
    found = build_replay(ledger, queue).run(dry_run=False)
    assert (found.total, found.unreadable) == (0, 1)
    assert queue.measure_depth(["load-dead"]) == {"load-dead": 1}


def test_a_result_that_exists_by_now_is_not_reset():
    done = evolve(failed_record().jobs["load"], state=State.DONE, error=None, artifact="gs://a/x")
    now = Record(uri=MESSAGE.uri, generation=1, arrived_at=NOW, jobs={"load": done})
    ledger, queue = MemoryLedger([now]), MemoryQueue()
    queue.publish([dead()])
    build_replay(ledger, queue).run(dry_run=False)
    assert ledger.records[MESSAGE.uri].jobs["load"] == done


def test_a_replay_leaves_the_record_of_a_deleted_file_as_it_is():
    deleted = evolve(failed_record(), deleted_at=NOW)
    ledger, queue = MemoryLedger([deleted]), MemoryQueue()
    queue.publish([dead()])
    assert build_replay(ledger, queue).run(dry_run=False).total == 0
    assert ledger.records[MESSAGE.uri] == deleted


@pytest.mark.parametrize(
    "change", [{"generation": 2}, {"deleted_at": NOW}, {"generation": 2, "deleted_at": NOW}]
)
def test_letters_about_a_file_that_has_changed_since_are_removed_and_not_sent(change):
    ledger, queue = MemoryLedger([evolve(failed_record(), **change)]), MemoryQueue()
    undecoded = dead(kind="unreadable_message", data=b"x")
    queue.publish([dead(), dead(kind="crashed"), undecoded])
    found = build_replay(ledger, queue).run(dry_run=True)
    assert (found.total, found.obsolete) == (1, 2)
    assert queue.measure_depth(["load-dead"]) == {"load-dead": 3}
    found = build_replay(ledger, queue).run(dry_run=False, only=())
    assert (found.total, found.obsolete) == (0, 2)
    assert not any(queue.measure_depth(list_topics(LETTER_GRAPH)).values())
    assert queue.measure_depth(["load-dead"]) == {"load-dead": 1}


def test_a_letter_about_a_newer_version_than_the_ledger_knows_is_sent():
    ledger, queue = MemoryLedger([evolve(failed_record(), generation=0)]), MemoryQueue()
    queue.publish([dead()])
    found = build_replay(ledger, queue).run(dry_run=False)
    assert (found.total, found.obsolete) == (1, 0)


@pytest.mark.parametrize("failing", ["publish", "acknowledge"])
def test_letters_that_could_not_be_sent_can_be_pulled_again_at_once(monkeypatch, failing):
    ledger, queue = MemoryLedger([failed_record()]), MemoryQueue()
    queue.publish([dead(), dead(kind="crashed")])

    def fail(_envelopes):
        raise Unavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(queue, failing, fail)
        with pytest.raises(Unavailable):
            build_replay(ledger, queue).run(dry_run=False)
    assert len(queue.pull(["load-dead"], limit=9)) == 2
