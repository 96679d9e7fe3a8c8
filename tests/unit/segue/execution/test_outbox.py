"""The outbox: first the letters, all in one call, and only then the strikes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from segue.errors import Unavailable
from segue.execution.outbox import send, strike
from segue.execution.responder import Received, Reply, Strike
from segue.log import Action
from segue.model.ledger import Change, Changed
from segue.model.message import Message, encode
from segue.model.queue import Letter, letter
from segue.model.record import Entry, Lease, Record, State
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URI = "gs://b/a.wav"
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

    def publish(self, letters: Sequence[Letter]) -> None:
        if self.away:
            raise Unavailable("the queue is away; try again")
        self.diary.lines.append(f"publish {len(letters)}")
        super().publish(letters)


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


def record(uri: str = URI, **wanted: tuple[str, ...]) -> Record:
    jobs = {
        job: Entry(state=State.DONE, fingerprint="f", generation=5, wanted=targets, wanted_at=NOW)
        for job, targets in wanted.items()
    }
    return Record(uri=uri, generation=5, arrived_at=NOW, jobs=jobs)


def reply(*told: str, strike: Strike | None = None) -> Reply:
    message = Message(uri=URI, generation=5, job="a")
    return Reply(
        received=Received(job="a", data=encode(message)),
        message=message,
        action=Action.DONE,
        letters=tuple(letter(Message(uri=URI, generation=5, job=job)) for job in told),
        strike=strike,
    )


def struck(job: str, *targets: str, uri: str = URI, generation: int = 5) -> Strike:
    return Strike(uri=uri, generation=generation, job=job, targets=targets, wanted_at=NOW)


def desk(*records: Record) -> tuple[Diary, NotedQueue, NotedLedger]:
    diary = Diary()
    return diary, NotedQueue(diary), NotedLedger(diary, *records)


def test_all_letters_go_in_one_call_before_anything_is_struck():
    diary, queue, ledger = desk(record(a=("c", "d")))
    replies = [reply("b", strike=struck("a", "c")), reply("b", "c")]
    send(replies, queue=queue, ledger=ledger, clock=lambda: NOW)
    assert diary.lines == ["publish 3", "change 1"]
    assert [one.topic for one in queue.queued.values()] == ["b-live", "b-live", "c-live"]
    assert ledger.records[URI].jobs["a"].wanted == ("d",)


def test_what_could_not_be_published_is_not_struck():
    diary, queue, ledger = desk(record(a=("c",)))
    queue.away = True
    with pytest.raises(Unavailable):
        send([reply("b", strike=struck("a", "c"))], queue=queue, ledger=ledger, clock=lambda: NOW)
    assert diary.lines == []
    assert ledger.records[URI].jobs["a"].wanted == ("c",)


def test_what_could_not_be_struck_can_be_sent_again():
    _, queue, ledger = desk(record(a=("c",)))
    ledger.away = True
    replies = [reply("b", strike=struck("a", "c"))]
    with pytest.raises(Unavailable):
        send(replies, queue=queue, ledger=ledger, clock=lambda: NOW)
    ledger.away = False
    send(replies, queue=queue, ledger=ledger, clock=lambda: NOW)
    assert len(queue.queued) == 2
    assert ledger.records[URI].jobs["a"].wanted == ()


def test_nobody_is_called_when_there_is_nothing_to_say():
    diary, queue, ledger = desk()
    send([reply(), reply()], queue=queue, ledger=ledger, clock=lambda: NOW)
    assert diary.lines == []


def test_the_strikes_of_a_file_are_one_change():
    diary, _, ledger = desk(record(a=("c", "d"), b=("d",)), record(OTHER, a=("c",)))
    strikes = [struck("a", "c"), struck("b", "d"), struck("a", "d"), struck("a", "c", uri=OTHER)]
    strike(strikes, ledger=ledger, now=NOW)
    assert diary.lines == ["change 2"]
    assert all(not found.owed for found in ledger.records.values())


def test_a_strike_of_an_older_version_or_of_an_unknown_file_changes_nothing():
    _, _, ledger = desk(record(a=("c",)))
    before = ledger.records
    strike(
        [struck("a", "c", generation=4), struck("a", "c", uri=OTHER), struck("b", "c")],
        ledger=ledger,
        now=NOW,
    )
    assert ledger.records == before


@pytest.mark.parametrize(("seconds", "left"), [(1, ("c",)), (0, ())])
def test_a_job_that_is_computed_again_owes_its_targets_again(seconds, left):
    busy = Entry(
        state=State.RUNNING,
        fingerprint="f",
        generation=5,
        wanted=("c",),
        wanted_at=NOW,
        lease=Lease(owner="other", expires_at=NOW + timedelta(seconds=seconds)),
    )
    _, _, ledger = desk(Record(uri=URI, generation=5, arrived_at=NOW, jobs={"a": busy}))
    strike([struck("a", "c")], ledger=ledger, now=NOW)
    assert ledger.records[URI].jobs["a"].wanted == left


def test_a_late_strike_leaves_what_was_asked_for_since():
    asked = Entry(
        state=State.DONE,
        fingerprint="f",
        generation=5,
        wanted=("c",),
        wanted_at=NOW + timedelta(seconds=1),
    )
    _, _, ledger = desk(Record(uri=URI, generation=5, arrived_at=NOW, jobs={"a": asked}))
    strike([struck("a", "c")], ledger=ledger, now=NOW)
    assert ledger.records[URI].jobs["a"] == asked
