"""The responder: every decision, every result, and nothing lost or doubled when a port is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from segue.adapters.sqlite_ledger import SqliteLedger
from segue.errors import DiskFull, Kind, TransientError, Unavailable
from segue.execution.reply import ClearPending, ReceivedMessage, Reply
from segue.execution.responder import MAX_ATTEMPTS, Responder
from segue.log import Action
from segue.model import dead_letter
from segue.model.dead_letter import DeadLetter, Stage
from segue.model.graph import SOURCE, Graph, Job
from segue.model.ledger import Change, Changed, Snapshot
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message, encode_message
from segue.model.outcome import build_blocked_result
from segue.model.queue import format_topic
from segue.model.record import EVERYTHING, Entry, Failure, Lease, Ping, Record, State, evolve
from segue.model.transitions import Result, arrive, claim
from segue.worker.protocol import Task
from segue_support.ledger import MemoryLedger
from segue_support.recording_pool import RecordingPool, complete_jobs
from segue_support.simulator.store import MemoryStore

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEASE_S = 60.0
URI = "gs://b/a.wav"
OTHER = "gs://b/b.wav"


def graph_of(**parents: str) -> Graph:
    return Graph(
        jobs={
            name: Job(
                name=name,
                run="m:f",
                needs={f"from_{p}": p for p in above} or {"media": SOURCE},
                writes="application/json",
            )
            for name, above in parents.items()
        }
    )


CHAIN = graph_of(a="", b="a", c="b")
FORK = graph_of(a="", b="a", c="b", d="b")
JOIN = graph_of(a="", b="", c="ab")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class AwayLedger(MemoryLedger):
    """A ledger that can be away, having done some of what it was asked or nothing."""

    away = False
    done_first = 0

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        if self.away and not self.done_first:
            raise Unavailable("the ledger is away; try again")
        return super().read(uris)

    def change(self, changes: Sequence[Change[Any]]) -> list[Changed[Any]]:
        if self.away and changes:
            super().change(changes[: self.done_first])
            raise Unavailable("the ledger is away; try again")
        return super().change(changes)


class System:
    """A responder with all that it needs, and what it replied."""

    def __init__(
        self,
        graph: Graph,
        *,
        answer: Callable[[Task], tuple[Result, ...]] = complete_jobs,
        jobs: Sequence[str] | None = None,
        **entries: Entry,
    ) -> None:
        self.clock = Clock()
        self.graph = graph
        self.ledger = AwayLedger(
            [Record(uri=uri, generation=5, arrived_at=NOW, jobs=entries) for uri in (URI, OTHER)]
        )
        self.pool = RecordingPool(answer)
        self.count = 0
        self.responder = Responder(
            graph=graph,
            jobs=tuple(graph.jobs) if jobs is None else jobs,
            ledger=self.ledger,
            pool=self.pool,
            artifacts=MemoryStore("gs://o"),
            clock=self.clock,
            owner=self.owner,
            lost=lambda lease: lease.owner == "dead",
            lease_s=LEASE_S,
        )

    def owner(self) -> str:
        self.count += 1
        return f"me/{self.count}"

    def add(self, *messages: Message) -> None:
        self.responder.add(
            [
                ReceivedMessage(
                    job=m.job, data=encode_message(m), handle=number, message_id=str(number)
                )
                for number, m in enumerate(messages)
            ]
        )

    def answer(self, *messages: Message) -> list[Reply]:
        self.add(*messages)
        return list(self.responder.drain())

    def reply(self, message: Message) -> Reply:
        (reply,) = self.answer(message)
        return reply

    def entry(self, job: str, uri: str = URI) -> Entry:
        return self.ledger.records[uri].jobs[job]


def done(job: str, graph: Graph = CHAIN, **more: Any) -> Entry:
    return Entry(
        state=State.DONE,
        fingerprint=graph.fingerprints[job],
        generation=5,
        artifact=f"gs://o/{job}",
        **more,
    )


def failed(job: str, graph: Graph = CHAIN, **more: Any) -> Entry:
    error = Failure(kind="timeout", type="JobTimeout", message="m")
    print_ = graph.fingerprints[job]
    return Entry(state=State.FAILED, fingerprint=print_, generation=5, error=error, **more)


def held(job: str, graph: Graph = CHAIN, *, owner: str = "other", seconds: float = 30) -> Entry:
    return Entry(
        state=State.RUNNING,
        fingerprint=graph.fingerprints[job],
        generation=5,
        lease=Lease(owner=owner, expires_at=NOW + timedelta(seconds=seconds)),
    )


def message(job: str, *targets: str, uri: str = URI, **more: Any) -> Message:
    return Message(uri=uri, generation=5, job=job, targets=targets or None, **more)


def notified(reply: Reply) -> list[tuple[str, tuple[str, ...] | None]]:
    """The jobs that a reply's envelopes notify, and for which targets."""
    messages = [decode_message(one.data) for one in reply.envelopes]
    return [(m.job, m.targets) for m in messages]


def find_dead_letter(reply: Reply) -> DeadLetter:
    (found,) = [one for one in reply.envelopes if one.topic.endswith("-dead")]
    return dead_letter.decode_dead_letter(found.data)


def failing(kind: Kind, state: State = State.FAILED) -> Callable[[Task], tuple[Result, ...]]:
    error = Failure(kind=kind, type="E", message="it went wrong")
    return lambda task: tuple(Result(job=job, state=state, error=error) for job in task.run)


# --- decisions -------------------------------------------------------------------------------


def test_a_job_that_is_missing_is_run_recorded_and_its_children_are_told():
    system = System(FORK, a=done("a", FORK, checksum="sha256:0"))
    reply = system.reply(message("b", "c", lane="requests", request="r1"))
    assert reply.action is Action.DONE
    assert notified(reply) == [("c", ("c",))]
    assert system.entry("b").state is State.DONE
    assert system.entry("b").lease is None
    assert system.entry("b").request == "r1"
    (task,) = system.pool.tasks
    assert (task.run, task.owner) == (("b",), "me/1")
    assert (task.inputs, task.checksums) == ({"a": "gs://o/a"}, {"a": "sha256:0"})
    assert task.media.generation == 5


def test_an_arrival_notifies_all_children():
    reply = System(FORK, a=done("a", FORK)).reply(message("b"))
    assert notified(reply) == [("c", None), ("d", None)]


def test_a_result_that_is_there_is_not_computed_again_and_the_message_passes():
    system = System(FORK, a=done("a", FORK))
    reply = system.reply(message("a", "d"))
    assert reply.action is Action.FORWARDED
    assert notified(reply) == [("b", ("d",))]
    assert reply.clear is None
    assert not system.pool.tasks


def test_of_what_is_missing_above_each_is_asked_and_the_targets_are_left_there():
    system = System(JOIN)
    reply = system.reply(message("c", "c", force=True, request="r1"))
    assert reply.action is Action.ASKED
    assert notified(reply) == [("a", ("c",)), ("b", ("c",))]
    assert all(decode_message(one.data).force for one in reply.envelopes)
    assert system.entry("a").pending_targets == system.entry("b").pending_targets == ("c",)
    assert not system.pool.tasks


def test_what_another_is_at_is_waited_for():
    system = System(CHAIN, a=held("a"))
    reply = system.reply(message("a", "c"))
    assert reply.action is Action.WAITING
    assert reply.envelopes == ()
    assert reply.reason == "a is held by other"
    assert system.entry("a").pending_targets == ("c",)
    assert system.entry("a").lease.owner == "other"


@pytest.mark.parametrize(
    "lost", [{"seconds": 0.0}, {"owner": "dead"}], ids=["expired", "known to be dead"]
)
def test_what_another_has_lost_is_taken_over(lost):
    system = System(CHAIN, a=held("a", **lost))
    assert system.reply(message("a", "a")).action is Action.DONE
    assert system.entry("a").state is State.DONE


def test_below_a_failure_a_job_is_blocked_with_the_cause_and_notifies_its_children():
    system = System(CHAIN, a=failed("a"))
    reply = system.reply(message("b", "c"))
    assert reply.action is Action.BLOCKED
    assert notified(reply) == [("c", ("c",))]
    assert system.entry("b").state is State.BLOCKED
    assert system.entry("b").error == build_blocked_result("b", "a").error
    assert system.entry("b").attempts == 0
    assert not system.pool.tasks


def test_a_failure_is_not_tried_again_by_a_mere_message():
    system = System(CHAIN, a=failed("a"))
    reply = system.reply(message("a", "b"))
    assert (reply.action, reply.reason) == (Action.DROPPED, "failed")
    assert notified(reply) == [("b", ("b",))]
    assert not system.pool.tasks


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (message("a", uri="gs://b/unknown.wav"), "unknown file"),
        (evolve(message("a"), generation=4), "superseded"),
        (message("a", "nothing"), "unknown job nothing"),
        (message("d", "c"), "off the line"),
        (message("gone"), "unknown job gone"),
    ],
)
def test_what_nothing_can_be_done_about_is_dropped(asked, reason):
    reply = System(FORK).reply(asked)
    assert (reply.action, reply.reason, reply.envelopes) == (Action.DROPPED, reason, ())


def test_nothing_is_done_about_a_file_that_is_deleted():
    system = System(CHAIN)
    record = evolve(system.ledger.records[URI], deleted_at=NOW)
    system.ledger.change([Change(uri=URI, transition=lambda _found: (record, None))])
    assert system.reply(message("a")).reason == "deleted"
    assert system.ledger.records[URI] == record


def test_a_ping_leaves_its_trace_on_its_line_and_computes_nothing():
    system = System(FORK)
    reply = system.reply(message("b", "c", ping=True, request="r1"))
    assert reply.action is Action.PINGED
    assert notified(reply) == [("c", ("c",))]
    assert decode_message(reply.envelopes[0].data).ping
    assert system.ledger.records[URI].pings == {"b": Ping(request="r1", at=NOW)}
    assert system.ledger.records[URI].jobs == {}
    assert not system.pool.tasks


# --- force -----------------------------------------------------------------------------------


def test_a_forced_target_is_computed_once_a_request():
    system = System(CHAIN, a=done("a"))
    forced = message("a", "a", force=True, request="r1")
    assert system.reply(forced).action is Action.DONE
    assert system.reply(forced).action is Action.FORWARDED
    assert [task.run for task in system.pool.tasks] == [("a",)]


def test_a_parent_is_not_forced():
    system = System(CHAIN, a=done("a"), b=done("b"))
    assert system.reply(message("a", "b", force=True, request="r1")).action is Action.FORWARDED


# --- damaged artifacts -----------------------------------------------------------------------


def damaged(parent: str) -> Callable[[Task], tuple[Result, ...]]:
    error = Failure(kind=Kind.DAMAGED_INPUT, type="DamagedInput", message="gs://o/a has changed")
    return lambda task: (
        (Result(job=task.run[0], state=State.QUEUED, error=error, damaged=parent),)
        if parent in task.inputs
        else complete_jobs(task)
    )


def test_a_damaged_artifact_of_a_parent_is_computed_again():
    system = System(CHAIN, answer=damaged("a"), a=done("a", checksum="sha256:1", attempts=1))
    asked = message("b", "b", lane="requests", request="r1")
    reply = system.reply(asked)
    assert reply.action is Action.DEFERRED
    assert "gs://o/a has changed" in str(reply.to_log_fields()["error"])
    assert decode_message(reply.envelopes[0].data) == asked
    assert (system.entry("a").state, system.entry("a").artifact) == (State.QUEUED, None)
    assert (system.entry("b").state, system.entry("b").lease) == (State.QUEUED, None)
    assert system.reply(asked).action is Action.ASKED
    assert system.reply(message("a", "b", lane="requests")).action is Action.DONE
    assert system.entry("a").attempts == 2


def test_a_parent_that_somebody_has_computed_meanwhile_is_kept():
    system = System(CHAIN, answer=damaged("a"), a=done("a", checksum="sha256:1"))

    def answer(task: Task) -> tuple[Result, ...]:
        record = system.ledger.records[URI]
        newer = {**record.jobs, "a": done("a", checksum="sha256:2")}
        system.ledger.change([Change(uri=URI, transition=lambda r: (evolve(r, jobs=newer), None))])
        return damaged("a")(task)

    system.pool._answer = answer
    assert system.reply(message("b", "b")).action is Action.DEFERRED
    assert system.entry("a") == done("a", checksum="sha256:2")


def test_an_artifact_that_is_damaged_each_time_is_a_failure_in_the_end():
    attempts = MAX_ATTEMPTS
    system = System(CHAIN, answer=damaged("a"), a=done("a", checksum="c", attempts=attempts))
    reply = system.reply(message("b", "b"))
    assert reply.action is Action.FAILED
    assert find_dead_letter(reply).kind == Kind.DAMAGED_INPUT
    assert system.entry("b").state is State.FAILED


class Disk(MemoryStore):
    """Notes what the ledger said of a job when the artifacts were synced."""

    def __init__(self, system: System) -> None:
        super().__init__("gs://o")
        self.system = system
        self.seen: list[State] = []
        self.error: TransientError | None = None

    def sync(self) -> None:
        self.seen.append(self.system.entry("a").state)
        if self.error is not None:
            raise self.error


def test_an_artifact_is_on_the_disk_before_the_ledger_says_done():
    system = System(CHAIN)
    disk = system.responder.artifacts = Disk(system)
    assert system.reply(message("a", "a")).action is Action.DONE
    assert disk.seen == [State.RUNNING]


def test_a_result_that_did_not_reach_the_disk_is_computed_again():
    system = System(CHAIN)
    disk = system.responder.artifacts = Disk(system)
    disk.error = Unavailable("the disk is away; check it")
    reply = system.reply(message("a", "a"))
    assert reply.action is Action.DEFERRED
    assert (system.entry("a").state, system.entry("a").artifact) == (State.QUEUED, None)
    disk.error = None
    again = decode_message(reply.envelopes[0].data)
    assert again.attempt == 2
    assert system.reply(again).action is Action.DONE
    assert [task.run for task in system.pool.tasks] == [("a",), ("a",)]


def test_an_artifact_for_which_the_disk_had_no_room_leaves_the_message_without_a_reply():
    system = System(CHAIN)
    disk = system.responder.artifacts = Disk(system)
    disk.error = DiskFull("no room is left; free some space")
    system.add(message("a", "a"))
    with pytest.raises(DiskFull, match="no room is left"):
        system.responder.step()
    assert (system.entry("a").state, system.entry("a").artifact) == (State.QUEUED, None)


def test_a_message_of_a_file_whose_record_is_damaged_is_dead_lettered(tmp_path):
    system = System(CHAIN)
    ledger = SqliteLedger(str(tmp_path / "ledger.db"))
    for uri in (URI, OTHER):
        whole = Record(uri=uri, generation=5, arrived_at=NOW)
        ledger.change([Change(uri=uri, transition=lambda _, whole=whole: (whole, None))])
    with ledger._session(), ledger._transaction():
        ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (URI,))
    system.responder.ledger = ledger
    system.add(message("a", "a"), evolve(message("a", "a"), uri=OTHER))
    replies = {r.action: r for r in system.responder.drain()}
    assert set(replies) == {Action.DEAD_LETTERED, Action.DONE}
    dead = find_dead_letter(replies[Action.DEAD_LETTERED])
    assert (dead.kind, dead.uri) == ("damaged_record", URI)
    assert replies[Action.DONE].message.uri == OTHER
    ledger.close()


# --- results ---------------------------------------------------------------------------------


def test_a_failure_is_recorded_notified_and_dead_lettered_with_its_message():
    system = System(CHAIN, answer=failing(Kind.CORRUPT_MEDIA))
    asked = message("a", "b", lane="requests")
    reply = system.reply(asked)
    assert reply.action is Action.FAILED
    assert system.entry("a").state is State.FAILED
    assert system.entry("a").error.kind == Kind.CORRUPT_MEDIA
    assert reply.envelopes[0].topic == format_topic("b", "requests")
    dead = find_dead_letter(reply)
    assert (dead.stage, dead.job, dead.kind) == (Stage.RUN, "a", Kind.CORRUPT_MEDIA)
    assert (dead.uri, dead.generation, dead.at) == (URI, 5, NOW)
    assert decode_message(dead.data) == asked


@pytest.mark.parametrize("attempt", [1, MAX_ATTEMPTS])
def test_a_file_without_space_comes_again_and_is_dead_lettered_in_the_end(attempt):
    system = System(CHAIN, answer=failing(Kind.NO_SPACE))
    reply = system.reply(evolve(message("a", "a"), attempt=attempt))
    is_last = attempt == MAX_ATTEMPTS
    assert reply.action is (Action.FAILED if is_last else Action.DEFERRED)
    assert system.entry("a").state is (State.FAILED if is_last else State.QUEUED)


def test_a_transient_error_gives_the_job_back_and_the_message_comes_again():
    system = System(CHAIN, answer=failing(Kind.UNAVAILABLE, State.QUEUED))
    reply = system.reply(message("a", "b", lane="requests", request="r1"))
    assert reply.action is Action.DEFERRED
    (again,) = [decode_message(one.data) for one in reply.envelopes]
    assert again == message("a", "b", lane="requests", request="r1", attempt=2)
    assert system.entry("a").state is State.QUEUED
    assert system.entry("a").lease is None


def test_a_message_that_is_passed_on_begins_with_its_first_attempt():
    reply = System(CHAIN).reply(message("a", attempt=3))
    assert [decode_message(one.data).attempt for one in reply.envelopes] == [1]


def test_a_transient_error_that_came_back_often_enough_is_a_failure():
    system = System(CHAIN, answer=failing(Kind.UNAVAILABLE, State.QUEUED))
    reply = system.reply(message("a", attempt=MAX_ATTEMPTS))
    assert reply.action is Action.FAILED
    assert system.entry("a").state is State.FAILED
    assert find_dead_letter(reply).kind == Kind.UNAVAILABLE


def test_a_superseded_file_is_no_failure_however_often():
    system = System(CHAIN, answer=failing(Kind.SUPERSEDED, State.QUEUED))
    assert system.reply(message("a")).action is Action.DEFERRED
    last = system.reply(message("a", attempt=MAX_ATTEMPTS))
    assert (last.action, last.reason, last.envelopes) == (Action.DROPPED, "superseded", ())
    assert system.entry("a").state is State.QUEUED


def test_a_full_disk_stops_the_worker_after_the_replies_to_others():
    full = failing(Kind.DISK_FULL, State.QUEUED)
    system = System(CHAIN, answer=lambda t: (full if t.media.uri == URI else complete_jobs)(t))
    system.add(message("a"), message("a", uri=OTHER))
    (reply,) = system.responder.step()
    assert reply.message.uri == OTHER
    with pytest.raises(DiskFull, match="it went wrong"):
        system.responder.step()
    assert system.entry("a").state is State.QUEUED
    assert system.responder.abandon() == []
    assert system.responder.step() == []


def test_a_result_whose_lease_another_took_changes_nothing_and_the_message_comes_again():
    system = System(CHAIN)

    def taken(task: Task) -> tuple[Result, ...]:
        def take(found: Record | None) -> tuple[Record | None, None]:
            assert found is not None
            return claim(found, CHAIN, ["a"], owner="other", now=NOW, lease_s=60), None

        system.ledger.change([Change(uri=URI, transition=take)])
        return complete_jobs(task)

    system.pool._answer = taken
    reply = system.reply(message("a", "b", attempt=2))
    assert reply.action is Action.LOST
    assert [decode_message(one.data) for one in reply.envelopes] == [message("a", "b", attempt=2)]
    assert system.entry("a").lease.owner == "other"


def test_a_result_of_a_version_that_was_overwritten_meanwhile_is_lost():
    system = System(CHAIN)

    def overwritten(task: Task) -> tuple[Result, ...]:
        newer = MediaFile(uri=URI, generation=6)
        system.ledger.change([Change(uri=URI, transition=lambda found: arrive(found, newer, NOW))])
        return complete_jobs(task)

    system.pool._answer = overwritten
    assert system.reply(message("a")).action is Action.LOST
    assert system.ledger.records[URI].generation == 6
    assert system.ledger.records[URI].jobs == {}


# --- pending targets -------------------------------------------------------------------------


def test_targets_that_others_left_are_notified_apart_and_then_cleared():
    queued = Entry(
        state=State.QUEUED,
        fingerprint=FORK.fingerprints["b"],
        generation=5,
        pending_targets=("c", "d"),
    )
    system = System(FORK, a=done("a", FORK), b=queued)
    reply = system.reply(message("b", "c"))
    assert notified(reply) == [("c", ("c",)), ("b", ("d",)), ("d", ("d",))]
    assert reply.clear == ClearPending(
        uri=URI, generation=5, job="b", targets=("c", "d"), pending_at=None
    )
    assert system.entry("b").pending_targets == ("c", "d")  # until the envelopes are published


def test_targets_that_an_arrival_left_notify_all_children():
    system = System(FORK, a=done("a", FORK), b=done("b", FORK, pending_targets=(EVERYTHING, "d")))
    reply = system.reply(message("b", "c"))
    assert notified(reply) == [("c", ("c",)), ("b", None), ("c", None), ("d", None)]
    assert reply.clear.targets == ("c", EVERYTHING, "d")


def test_pending_targets_of_a_failed_job_are_notified_too():
    system = System(FORK, a=done("a", FORK), b=failed("b", FORK, pending_targets=("d",)))
    reply = system.reply(message("b", "c"))
    assert notified(reply) == [("c", ("c",)), ("b", ("d",)), ("d", ("d",))]
    assert reply.clear.targets == ("c", "d")


def test_what_a_second_delivery_left_stays_until_it_is_told():
    """The second delivery is acknowledged, so the message does not come again if we die now."""
    system = System(CHAIN)
    replies = system.answer(message("a", "b"), message("a", "b"))
    assert [r.action for r in replies] == [Action.WAITING, Action.DONE]
    assert system.entry("a").pending_targets == ("b",)
    assert replies[1].clear.targets == ("b",)
    assert replies[1].clear.pending_at == system.entry("a").pending_at


# --- lanes, dead letters ---------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["live", "requests"])
def test_a_message_keeps_its_lane(lane):
    for system in (System(CHAIN), System(CHAIN, a=done("a", pending_targets=("c",)))):
        reply = system.reply(message("a", "b", lane=lane))
        assert {one.topic for one in reply.envelopes} <= {
            format_topic("a", lane),
            format_topic("b", lane),
        }
        assert reply.envelopes
    (asked,) = System(CHAIN).reply(message("b", lane=lane)).envelopes
    assert asked.topic == format_topic("a", lane)


def test_bytes_that_are_no_message_are_dead():
    system = System(CHAIN)
    system.responder.add([ReceivedMessage(job="a", data=b"\xff{", handle="h")])
    (reply,) = system.responder.drain()
    assert (reply.action, reply.message, reply.job) == (Action.DEAD_LETTERED, None, "a")
    assert reply.received.handle == "h"
    dead = find_dead_letter(reply)
    assert (dead.stage, dead.job, dead.kind) == (Stage.DECODE, "a", Kind.UNREADABLE_MESSAGE)
    assert dead.data == b"\xff{"


def test_a_message_for_a_job_that_is_not_served_here_is_dead():
    system = System(CHAIN, jobs=["a"])
    asked = message("b")
    system.responder.add([ReceivedMessage(job="a", data=encode_message(asked))])
    (reply,) = system.responder.drain()
    dead = find_dead_letter(reply)
    assert (dead.stage, dead.job, dead.uri, dead.generation) == (Stage.ROUTE, "a", URI, 5)
    assert "'b'" in dead.error
    assert dead.data == encode_message(asked)
    assert system.ledger.records[URI].jobs == {}


def test_a_dead_letter_does_not_keep_others_waiting():
    system = System(CHAIN)
    system.responder.add(
        [
            ReceivedMessage(job="a", data=b"x"),
            ReceivedMessage(job="a", data=encode_message(message("a"))),
        ]
    )
    actions = {reply.action for reply in system.responder.drain()}
    assert actions == {Action.DEAD_LETTERED, Action.DONE}


# --- a ledger that is away -------------------------------------------------------------------


@pytest.mark.parametrize("done_first", [0, 1, 2])
def test_messages_stay_when_the_ledger_is_away_before_the_claim(done_first):
    system = System(CHAIN)
    system.add(message("a"), message("a", uri=OTHER))
    system.ledger.away, system.ledger.done_first = True, done_first
    for _ in range(3):
        with pytest.raises(Unavailable):
            system.responder.step()
    assert system.responder.pending == 2
    system.ledger.away = False
    replies = list(system.responder.drain())
    assert sorted(r.received.handle for r in replies) == [0, 1]
    assert {r.action for r in replies} == {Action.DONE}
    assert len(system.pool.tasks) == 2


@pytest.mark.parametrize("done_first", [0, 1, 2])
def test_results_stay_when_the_ledger_is_away_before_they_are_settled(done_first):
    system = System(CHAIN)

    def goes_away(task: Task) -> tuple[Result, ...]:
        system.ledger.away, system.ledger.done_first = True, done_first
        return complete_jobs(task)

    system.pool._answer = goes_away
    system.add(message("a", "b"), message("a", "b", uri=OTHER))
    with pytest.raises(Unavailable):
        system.responder.step()
    assert system.responder.pending == 2
    system.ledger.away = False
    replies = list(system.responder.drain())
    assert sorted(r.received.handle for r in replies) == [0, 1]
    assert system.entry("a").state is system.entry("a", OTHER).state is State.DONE
    assert {r.action for r in replies} == {Action.DONE}
    assert [notified(reply) for reply in replies] == [[("b", ("b",))]] * 2
    assert len(system.pool.tasks) == 2


def test_a_failure_is_dead_lettered_even_if_the_ledger_went_away_after_recording_it():
    system = System(CHAIN)

    def goes_away(task: Task) -> tuple[Result, ...]:
        system.ledger.away, system.ledger.done_first = True, 1
        return failing(Kind.TIMEOUT)(task)

    system.pool._answer = goes_away
    system.add(message("a"))
    with pytest.raises(Unavailable):
        system.responder.step()
    system.ledger.away = False
    (reply,) = system.responder.drain()
    assert reply.action is Action.FAILED
    assert find_dead_letter(reply).kind == Kind.TIMEOUT


def test_replies_that_were_ready_are_not_lost_with_what_fails_after_them():
    system = System(CHAIN)
    system.responder.add([ReceivedMessage(job="a", data=b"x", handle="dead")])
    system.add(message("a"))
    system.ledger.away = True
    with pytest.raises(Unavailable):
        system.responder.step()
    system.ledger.away = False
    assert {r.received.handle for r in system.responder.drain()} == {"dead", 0}


# --- leases and room -------------------------------------------------------------------------


class SlowPool(RecordingPool):
    """Nothing is finished until it may be."""

    ready = False

    def collect(self, timeout_s: float):
        return super().collect(timeout_s) if self.ready else []


def build_slow_system() -> System:
    system = System(CHAIN)
    system.pool = system.responder.pool = SlowPool()
    system.add(message("a"), message("a", uri=OTHER))
    system.responder.step()
    return system


def expires_s(system: System, uri: str = URI) -> float:
    return (system.entry("a", uri).lease.expires_at - NOW).total_seconds()


def test_leases_are_renewed_while_jobs_run_and_not_more_often_than_needed():
    system = build_slow_system()
    assert expires_s(system) == 60
    system.clock.pass_s(19)
    system.responder.step()
    assert expires_s(system) == 60
    system.clock.pass_s(1)
    system.responder.step()
    assert expires_s(system) == expires_s(system, OTHER) == 80
    system.clock.pass_s(50)
    system.responder.step()
    assert expires_s(system) == 130


def test_a_lease_that_another_took_is_left_to_it():
    system = build_slow_system()
    taken = held("a", owner="other", seconds=500)
    record = evolve(system.ledger.records[URI], jobs={"a": taken})
    system.ledger.change([Change(uri=URI, transition=lambda _found: (record, None))])
    system.clock.pass_s(30)
    system.responder.step()
    assert system.entry("a") == taken
    system.pool.ready = True
    actions = {r.message.uri: r.action for r in system.responder.drain()}
    assert actions == {URI: Action.LOST, OTHER: Action.DONE}


def test_abandoning_returns_the_owners_and_ignores_late_results():
    system = build_slow_system()
    system.add(message("b"))
    assert sorted(system.responder.abandon()) == ["me/1", "me/2", "me/3"]
    assert system.responder.pending == 0
    system.pool.ready = True
    system.add(message("a", uri=OTHER))
    system.responder.lost = lambda lease: lease.owner in {"me/1", "me/2"}
    (reply,) = system.responder.drain()
    assert (reply.action, reply.received.handle) == (Action.DONE, 0)
    assert system.entry("a").state is State.RUNNING


def test_no_more_is_claimed_than_there_is_work_for_a_moment():
    system = System(CHAIN)
    system.pool = system.responder.pool = SlowPool(processes=2)
    assert system.responder.room == 4
    uris = [f"gs://b/{i}.wav" for i in range(7)]
    for uri in uris:
        arrived = MediaFile(uri=uri, generation=5)
        system.ledger.change([Change(uri=uri, transition=lambda r, m=arrived: arrive(r, m, NOW))])
    system.add(*(message("a", uri=uri) for uri in uris))
    system.responder.step()
    assert (system.responder.running, system.responder.pending, system.responder.room) == (4, 7, 0)
    system.pool.ready = True
    assert len(list(system.responder.drain())) == 7


def test_two_messages_for_one_file_are_answered_one_after_the_other():
    system = System(CHAIN)
    replies = system.answer(message("a", "b"), message("b", "b"))
    assert {r.message.job: r.action for r in replies} == {"a": Action.DONE, "b": Action.WAITING}
    assert system.entry("a").pending_targets == ("b",)
    (notified_a,) = [r for r in replies if r.message.job == "a"]
    assert notified(notified_a) == [("b", ("b",))]


# --- what is logged --------------------------------------------------------------------------


def test_a_reply_says_what_is_logged_of_it():
    system = System(CHAIN, answer=failing(Kind.TIMEOUT))
    fields = system.reply(message("a", lane="requests", request="r1")).to_log_fields()
    assert fields["file"] == URI
    assert (fields["job"], fields["generation"], fields["lane"]) == ("a", 5, "requests")
    assert (fields["request"], fields["message_id"]) == ("r1", "0")
    assert (fields["kind"], fields["error"]) == (Kind.TIMEOUT, "it went wrong")
