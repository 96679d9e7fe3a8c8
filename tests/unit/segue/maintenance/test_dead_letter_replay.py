"""Dead letters are looked at without harm, and sent on their way again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from segue.maintenance.dead_letter_replay import Chosen, Exhumation
from segue.model import dead_letter
from segue.model.dead_letter import Stage
from segue.model.graph import SOURCE, Graph, Job
from segue.model.message import Message, decode, encode
from segue.model.queue import Letter, topics_of
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


def dead(job: str = "load", kind: str = "timeout", data: bytes | None = None) -> Letter:
    return dead_letter.letter(
        dead_letter.dead_letter(
            stage=Stage.RUN if data is None else Stage.DECODE,
            job=job,
            kind=kind,
            type="JobTimeout",
            error="too slow",
            data=encode(MESSAGE) if data is None else data,
            uri=MESSAGE.uri if data is None else None,
            generation=1 if data is None else None,
            at=NOW,
        )
    )


def exhumation(ledger: MemoryLedger, queue: MemoryQueue, **chosen: object) -> Exhumation:
    choice = Chosen(**{"jobs": ("load", "beats"), **chosen})
    return Exhumation(
        graph=GRAPH, ledger=ledger, queue=queue, chosen=choice, clock=lambda: NOW, wait_s=0
    )


def test_looking_changes_nothing():
    ledger, queue = MemoryLedger([record()]), MemoryQueue()
    queue.publish([dead(), dead(kind="crashed")])
    found = exhumation(ledger, queue).run(dry_run=True)
    assert dict(found.found) == {("load", "run", "timeout"): 1, ("load", "run", "crashed"): 1}
    assert len(queue.pull(["load-dead"], limit=9)) == 2
    assert ledger.records[MESSAGE.uri] == record()


def test_a_failure_is_forgotten_and_its_message_comes_again():
    ledger, queue = MemoryLedger([record()]), MemoryQueue()
    queue.publish([dead()])
    assert exhumation(ledger, queue).run(dry_run=False).total == 1
    assert queue.depth(["load-dead"]) == {"load-dead": 0}
    (one,) = queue.pull(topics_of(GRAPH), limit=9)
    assert decode(one.data) == evolve(MESSAGE, attempt=1)
    jobs = ledger.records[MESSAGE.uri].jobs
    assert {job: e.state for job, e in jobs.items()} == dict.fromkeys(jobs, State.QUEUED)
    assert jobs["load"].wanted == ("*",)


def test_only_what_is_chosen_is_sent_again():
    ledger, queue = MemoryLedger([record()]), MemoryQueue()
    queue.publish([dead(), dead(kind="crashed")])
    kinds = frozenset({"crashed"})
    assert exhumation(ledger, queue, kinds=kinds).run(dry_run=False).total == 1
    (left,) = queue.pull(["load-dead"], limit=9)
    assert dead_letter.decode(left.data).kind == "timeout"
    assert exhumation(ledger, queue, prefix="gs://other/").run(dry_run=False).total == 0


class FailsAtOnce(MemoryQueue):
    """A queue whose pipelines work at once, and put aside again whatever they are given."""

    def publish(self, letters: Sequence[Letter]) -> None:
        again = [dead() for one in letters if not one.topic.endswith("-dead")]
        super().publish([*letters, *again])


def test_what_fails_again_at_once_is_sent_one_time():
    ledger, queue = MemoryLedger([record()]), FailsAtOnce()
    queue.publish([dead()])
    again = exhumation(ledger, queue)
    found = again.run(dry_run=True)
    assert again.run(dry_run=False, only=found.ids).total == 1
    assert queue.depth(["load-dead", "load-live"]) == {"load-dead": 1, "load-live": 1}


def test_unreadable_bytes_go_back_to_the_topic_that_they_came_on():
    ledger, queue = MemoryLedger(), MemoryQueue()
    queue.publish([dead(kind="unreadable_message", data=b"\xff{")])
    assert exhumation(ledger, queue).run(dry_run=False).total == 1
    (one,) = queue.pull(["load-requests"], limit=9)
    assert one.data == b"\xff{"


def test_what_somebody_else_published_is_left_alone():
    ledger, queue = MemoryLedger(), MemoryQueue()
    queue.publish([Letter(topic="load-dead", data=b"hello")])
    found = exhumation(ledger, queue).run(dry_run=False)
    assert (found.total, found.unreadable) == (0, 1)
    assert queue.depth(["load-dead"]) == {"load-dead": 1}


def test_a_result_that_is_there_by_now_is_not_forgotten():
    done = evolve(record().jobs["load"], state=State.DONE, error=None, artifact="gs://a/x")
    now = Record(uri=MESSAGE.uri, generation=1, arrived_at=NOW, jobs={"load": done})
    ledger, queue = MemoryLedger([now]), MemoryQueue()
    queue.publish([dead()])
    exhumation(ledger, queue).run(dry_run=False)
    assert ledger.records[MESSAGE.uri].jobs["load"] == done
