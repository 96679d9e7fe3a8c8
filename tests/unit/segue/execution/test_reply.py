"""Replies are sent: first the envelopes, all in one call, and only then the clears."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from segue.errors import Unavailable
from segue.execution.reply import ClearNotify, Reply, clear_all, send
from segue.execution.work import ReceivedMessage
from segue.log import Action
from segue.model.ledger import Change, Changed
from segue.model.message import Message, encode_message
from segue.model.queue import Envelope, message_to_envelope
from segue.model.record import EVERYONE, PENDING, Entry, Lease, Record, State, list_open_terms
from segue.model.transitions import Notified
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.stream import NOW, URI, Stream, build_graph

OTHER = "gs://b/b.wav"


class Diary:
    """What was done, in its order."""

    def __init__(self) -> None:
        self.lines: list[str] = []


class NotedQueue(MemoryQueue):
    away = False

    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self.diary = diary

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        if self.away:
            raise Unavailable("the queue is away; try again")
        self.diary.lines.append(f"publish {len(envelopes)}")
        super().publish(envelopes)

    def sync(self) -> None:
        self.diary.lines.append("sync queue")


class NotedLedger(MemoryLedger):
    away = False

    def __init__(self, diary: Diary, *records: Record) -> None:
        super().__init__(records)
        self.diary = diary

    def change(self, changes: Sequence[Change[Any]]) -> list[Changed[Any]]:
        self.diary.lines.append(f"change {len(changes)}")
        if self.away:
            raise Unavailable("the ledger is away; try again")
        return super().change(changes)

    def sync(self) -> None:
        self.diary.lines.append("sync ledger")


def left(job: str, state: State = State.DONE, **more: Any) -> Entry:
    """A result of which everyone is still to be told."""
    return Entry(job=job, state=state, order=5, notify=(EVERYONE,), notify_at=NOW, **more)


def record(uri: str = URI, *entries: Entry) -> Record:
    results = {entry.job: entry for entry in entries}  # by the job's name as its fingerprint
    return Record(uri=uri, version="5", order=5, arrived_at=NOW, results=results)


def reply(*pipelines: str, clear: ClearNotify | None = None) -> Reply:
    message = Message(uri=URI, version="5", order=5, trigger="a")
    return Reply(
        received=ReceivedMessage(pipeline="a", data=encode_message(message)),
        message=message,
        action=Action.DONE,
        envelopes=tuple(message_to_envelope(message, pipeline) for pipeline in pipelines),
        clear=clear,
    )


def clear(*jobs: str, uri: str = URI, order: int = 5) -> ClearNotify:
    notified = tuple(Notified(fingerprint=job, notify_at=NOW) for job in jobs)
    return ClearNotify(uri=uri, order=order, notified=notified)


def system(*records: Record) -> tuple[Diary, NotedQueue, NotedLedger]:
    diary = Diary()
    return diary, NotedQueue(diary), NotedLedger(diary, *records)


def is_pending(ledger: MemoryLedger, uri: str = URI) -> bool:
    return PENDING in list_open_terms(ledger.records[uri])


def test_all_envelopes_go_in_one_call_and_to_the_disk_before_anything_is_cleared():
    diary, queue, ledger = system(record(URI, left("a"), left("c")))
    replies = [reply("b", clear=clear("a")), reply("b", "c")]
    send(replies, queue=queue, ledger=ledger)
    assert diary.lines == ["publish 3", "sync queue", "change 1", "sync ledger"]
    assert [one.topic for one in queue.queued.values()] == ["inbox-b", "inbox-b", "inbox-c"]
    assert ledger.records[URI].results["a"].notify == ()
    assert ledger.records[URI].results["c"].notify == (EVERYONE,)


def test_those_who_could_not_be_told_stay():
    diary, queue, ledger = system(record(URI, left("a")))
    queue.away = True
    with pytest.raises(Unavailable):
        send([reply("b", clear=clear("a"))], queue=queue, ledger=ledger)
    assert diary.lines == []
    assert is_pending(ledger)


def test_replies_that_could_not_be_cleared_can_be_sent_again():
    _, queue, ledger = system(record(URI, left("a")))
    ledger.away = True
    replies = [reply("b", clear=clear("a"))]
    with pytest.raises(Unavailable):
        send(replies, queue=queue, ledger=ledger)
    ledger.away = False
    send(replies, queue=queue, ledger=ledger)
    assert len(queue.queued) == 2
    assert not is_pending(ledger)


def test_without_envelopes_nothing_is_published_and_the_results_are_on_the_disk():
    diary, queue, ledger = system()
    send([reply(), reply()], queue=queue, ledger=ledger)
    assert diary.lines == ["sync ledger"]


def test_clears_of_a_file_are_one_change():
    diary, _, ledger = system(record(URI, left("a"), left("b")), record(OTHER, left("a")))
    clear_all([clear("a"), clear("b"), clear("b", "a"), clear("a", uri=OTHER)], ledger=ledger)
    assert diary.lines == ["change 2"]
    assert not is_pending(ledger)
    assert not is_pending(ledger, OTHER)


def test_clearing_an_older_version_or_an_unknown_file_changes_nothing():
    _, _, ledger = system(record(URI, left("a")))
    before = dict(ledger.records)
    clear_all([clear("a", order=4), clear("a", uri=OTHER), clear("b")], ledger=ledger)
    assert ledger.records == before


def test_what_is_computed_again_is_told_of_again():
    lease = Lease(owner="other", expires_at=NOW + timedelta(seconds=1))
    _, _, ledger = system(record(URI, left("a", State.RUNNING, lease=lease)))
    clear_all([clear("a")], ledger=ledger)
    assert is_pending(ledger)


def test_a_clear_waits_pickled_behind_a_durable_step():
    made = clear("a", "b")
    assert pickle.loads(pickle.dumps(made)) == made


class Killed(Exception):
    """The process dies."""


@pytest.mark.parametrize("step", ["publish", "sync", "change"])
def test_no_one_is_cleared_before_they_are_told(monkeypatch, step):
    """Whoever dies in between tells again; the other way round, some would never be told.

    The event finds its job held by a process that dies then, and is acknowledged, so nothing but
    the record knows that those below are to be told.
    """
    stream = Stream(graph=build_graph({"a": "", "b": "a"}))
    stream.arrive()
    stream.hold("a")
    assert stream.deliver().action is Action.WAITING
    stream.sweep()
    reply = stream.reply()
    assert stream.computed == {"a": 1}

    def die(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(stream.ledger if step == "change" else stream.queue, step, die)
    with pytest.raises(Killed):
        send([reply], queue=stream.queue, ledger=stream.ledger)
    monkeypatch.undo()
    stream.drop_messages()  # even the one that was under way
    stream.sweep()
    stream.run()
    assert stream.computed == {"a": 1, "b": 1}
    assert not is_pending(stream.ledger)
