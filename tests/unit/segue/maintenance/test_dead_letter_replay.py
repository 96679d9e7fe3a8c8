"""Counting dead letters changes nothing; replaying publishes their messages again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from segue.maintenance.dead_letter_replay import DeadLetterReplay, DeadLetterSelection
from segue.model import dead_letter
from segue.model.dead_letter import Stage
from segue.model.graph import SOURCE, Graph, Job
from segue.model.message import Message, decode_message, encode_message
from segue.model.queue import Envelope, list_topics
from segue.model.record import Entry, Failure, Record, State, evolve
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, tzinfo=UTC)
GRAPH = Graph(
    jobs={
        name: Job(name=name, run="m:f", needs={"x": above}, writes="application/json")
        for name, above in {"load": SOURCE, "beats": "load"}.items()
    }
)
MESSAGE = Message(uri="gs://b/a.wav", generation=1, job="load", attempt=5)


def record() -> Record:
    failed = Entry(
        state=State.FAILED,
        fingerprint=GRAPH.fingerprints["load"],
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
            kind=kind,
            type="JobTimeout",
            error="too slow",
            data=encode_message(MESSAGE) if data is None else data,
            uri=MESSAGE.uri if data is None else None,
            generation=1 if data is None else None,
            at=NOW,
        )
    )


def build_replay(ledger: MemoryLedger, queue: MemoryQueue, **selected: object) -> DeadLetterReplay:
    selection = DeadLetterSelection(**{"jobs": ("load", "beats"), **selected})
    return DeadLetterReplay(
        graph=GRAPH, ledger=ledger, queue=queue, selection=selection, clock=lambda: NOW, wait_s=0
    )


def test_counting_changes_nothing():
    ledger, queue = MemoryLedger([record()]), MemoryQueue()
    queue.publish([dead(), dead(kind="crashed")])
    found = build_replay(ledger, queue).run(dry_run=True)
    assert dict(found.found) == {("load", "run", "timeout"): 1, ("load", "run", "crashed"): 1}
    assert len(queue.pull(["load-dead"], limit=9)) == 2
    assert ledger.records[MESSAGE.uri] == record()


def test_a_failure_is_reset_and_its_message_published_again():
    ledger, queue = MemoryLedger([record()]), MemoryQueue()
    queue.publish([dead()])
    assert build_replay(ledger, queue).run(dry_run=False).total == 1
    assert queue.measure_depth(["load-dead"]) == {"load-dead": 0}
    (one,) = queue.pull(list_topics(GRAPH), limit=9)
    assert decode_message(one.data) == evolve(MESSAGE, attempt=1)
    jobs = ledger.records[MESSAGE.uri].jobs
    assert {job: e.state for job, e in jobs.items()} == dict.fromkeys(jobs, State.QUEUED)
    assert jobs["load"].pending_targets == ("*",)


def test_only_selected_letters_are_sent_again():
    ledger, queue = MemoryLedger([record()]), MemoryQueue()
    queue.publish([dead(), dead(kind="crashed")])
    kinds = frozenset({"crashed"})
    assert build_replay(ledger, queue, kinds=kinds).run(dry_run=False).total == 1
    (left,) = queue.pull(["load-dead"], limit=9)
    assert dead_letter.decode_dead_letter(left.data).kind == "timeout"
    assert build_replay(ledger, queue, prefix="gs://other/").run(dry_run=False).total == 0


class FailsAtOnce(MemoryQueue):
    """A queue whose pipelines work at once, and put aside again whatever they are given."""

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        again = [dead() for one in envelopes if not one.topic.endswith("-dead")]
        super().publish([*envelopes, *again])


def test_a_message_that_fails_again_at_once_is_sent_once():
    ledger, queue = MemoryLedger([record()]), FailsAtOnce()
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
    done = evolve(record().jobs["load"], state=State.DONE, error=None, artifact="gs://a/x")
    now = Record(uri=MESSAGE.uri, generation=1, arrived_at=NOW, jobs={"load": done})
    ledger, queue = MemoryLedger([now]), MemoryQueue()
    queue.publish([dead()])
    build_replay(ledger, queue).run(dry_run=False)
    assert ledger.records[MESSAGE.uri].jobs["load"] == done
