"""Replies are sent: first the envelopes, all in one call, and only then the clears."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from segue.errors import Unavailable
from segue.execution.reply import ClearPending, ReceivedMessage, Reply, clear_pending, send
from segue.log import Action
from segue.model.ledger import Change, Changed
from segue.model.message import Message, encode_message
from segue.model.queue import Envelope, message_to_envelope
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


def record(uri: str = URI, **wanted: tuple[str, ...]) -> Record:
    jobs = {
        job: Entry(
            state=State.DONE, fingerprint="f", generation=5, pending_targets=targets, pending_at=NOW
        )
        for job, targets in wanted.items()
    }
    return Record(uri=uri, generation=5, arrived_at=NOW, jobs=jobs)


def reply(*notified: str, clear: ClearPending | None = None) -> Reply:
    message = Message(uri=URI, generation=5, job="a")
    return Reply(
        received=ReceivedMessage(job="a", data=encode_message(message)),
        message=message,
        action=Action.DONE,
        envelopes=tuple(
            message_to_envelope(Message(uri=URI, generation=5, job=job)) for job in notified
        ),
        clear=clear,
    )


def pending(job: str, *targets: str, uri: str = URI, generation: int = 5) -> ClearPending:
    return ClearPending(uri=uri, generation=generation, job=job, targets=targets, pending_at=NOW)


def system(*records: Record) -> tuple[Diary, NotedQueue, NotedLedger]:
    diary = Diary()
    return diary, NotedQueue(diary), NotedLedger(diary, *records)


def test_all_envelopes_go_in_one_call_and_to_the_disk_before_anything_is_cleared():
    diary, queue, ledger = system(record(a=("c", "d")))
    replies = [reply("b", clear=pending("a", "c")), reply("b", "c")]
    send(replies, queue=queue, ledger=ledger, clock=lambda: NOW)
    assert diary.lines == ["publish 3", "sync queue", "change 1", "sync ledger"]
    assert [one.topic for one in queue.queued.values()] == ["b-live", "b-live", "c-live"]
    assert ledger.records[URI].jobs["a"].pending_targets == ("d",)


def test_targets_that_could_not_be_notified_stay_pending():
    diary, queue, ledger = system(record(a=("c",)))
    queue.away = True
    with pytest.raises(Unavailable):
        send([reply("b", clear=pending("a", "c"))], queue=queue, ledger=ledger, clock=lambda: NOW)
    assert diary.lines == []
    assert ledger.records[URI].jobs["a"].pending_targets == ("c",)


def test_replies_that_could_not_be_cleared_can_be_sent_again():
    _, queue, ledger = system(record(a=("c",)))
    ledger.away = True
    replies = [reply("b", clear=pending("a", "c"))]
    with pytest.raises(Unavailable):
        send(replies, queue=queue, ledger=ledger, clock=lambda: NOW)
    ledger.away = False
    send(replies, queue=queue, ledger=ledger, clock=lambda: NOW)
    assert len(queue.queued) == 2
    assert ledger.records[URI].jobs["a"].pending_targets == ()


def test_without_envelopes_nothing_is_published_and_the_results_are_on_the_disk():
    diary, queue, ledger = system()
    send([reply(), reply()], queue=queue, ledger=ledger, clock=lambda: NOW)
    assert diary.lines == ["sync ledger"]


def test_pending_targets_of_a_file_are_cleared_in_one_change():
    diary, _, ledger = system(record(a=("c", "d"), b=("d",)), record(OTHER, a=("c",)))
    clears = [pending("a", "c"), pending("b", "d"), pending("a", "d"), pending("a", "c", uri=OTHER)]
    clear_pending(clears, ledger=ledger, now=NOW)
    assert diary.lines == ["change 2"]
    assert all(not found.has_pending_targets for found in ledger.records.values())


def test_clearing_an_older_version_or_an_unknown_file_changes_nothing():
    _, _, ledger = system(record(a=("c",)))
    before = ledger.records
    clear_pending(
        [pending("a", "c", generation=4), pending("a", "c", uri=OTHER), pending("b", "c")],
        ledger=ledger,
        now=NOW,
    )
    assert ledger.records == before


@pytest.mark.parametrize(("seconds", "left"), [(1, ("c",)), (0, ())])
def test_a_job_that_is_computed_again_has_its_targets_pending_again(seconds, left):
    busy = Entry(
        state=State.RUNNING,
        fingerprint="f",
        generation=5,
        pending_targets=("c",),
        pending_at=NOW,
        lease=Lease(owner="other", expires_at=NOW + timedelta(seconds=seconds)),
    )
    _, _, ledger = system(Record(uri=URI, generation=5, arrived_at=NOW, jobs={"a": busy}))
    clear_pending([pending("a", "c")], ledger=ledger, now=NOW)
    assert ledger.records[URI].jobs["a"].pending_targets == left


def test_clearing_late_leaves_targets_that_were_added_since():
    asked = Entry(
        state=State.DONE,
        fingerprint="f",
        generation=5,
        pending_targets=("c",),
        pending_at=NOW + timedelta(seconds=1),
    )
    _, _, ledger = system(Record(uri=URI, generation=5, arrived_at=NOW, jobs={"a": asked}))
    clear_pending([pending("a", "c")], ledger=ledger, now=NOW)
    assert ledger.records[URI].jobs["a"] == asked
