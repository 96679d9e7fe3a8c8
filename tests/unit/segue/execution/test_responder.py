"""The responder: every decision, every result, and nothing lost or doubled when a port is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from segue.errors import DiskFull, Kind, Unavailable
from segue.execution.responder import MAX_ATTEMPTS, Received, Reply, Responder, Strike
from segue.log import Action
from segue.model import dead_letter
from segue.model.dead_letter import DeadLetter, Stage
from segue.model.graph import SOURCE, Graph, Job
from segue.model.ledger import Change, Changed, Result, Snapshot, arrive, claim
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode, encode
from segue.model.outcome import blocked
from segue.model.queue import topic_of
from segue.model.record import EVERYTHING, Entry, Failure, Lease, Ping, Record, State, evolve
from segue.worker.task import Task
from segue_support.ledger import MemoryLedger
from segue_support.recording_pool import RecordingCrew, all_done

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


class Desk:
    """A responder with all that it needs, and what it replied."""

    def __init__(
        self,
        graph: Graph,
        *,
        answer: Callable[[Task], tuple[Result, ...]] = all_done,
        jobs: Sequence[str] | None = None,
        **entries: Entry,
    ) -> None:
        self.clock = Clock()
        self.graph = graph
        self.ledger = AwayLedger(
            [Record(uri=uri, generation=5, arrived_at=NOW, jobs=entries) for uri in (URI, OTHER)]
        )
        self.crew = RecordingCrew(answer)
        self.count = 0
        self.responder = Responder(
            graph=graph,
            jobs=tuple(graph.jobs) if jobs is None else jobs,
            ledger=self.ledger,
            crew=self.crew,
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
                Received(job=m.job, data=encode(m), handle=number, message_id=str(number))
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


def told(reply: Reply) -> list[tuple[str, tuple[str, ...] | None]]:
    """Whom a reply's letters tell, and for which targets."""
    messages = [decode(one.data) for one in reply.letters]
    return [(m.job, m.targets) for m in messages]


def buried(reply: Reply) -> DeadLetter:
    (found,) = [one for one in reply.letters if one.topic.endswith("-dead")]
    return dead_letter.decode(found.data)


def failing(kind: Kind, state: State = State.FAILED) -> Callable[[Task], tuple[Result, ...]]:
    error = Failure(kind=kind, type="E", message="it went wrong")
    return lambda task: tuple(Result(job=job, state=state, error=error) for job in task.run)


# --- decisions -------------------------------------------------------------------------------


def test_a_job_that_is_missing_is_run_recorded_and_its_children_are_told():
    desk = Desk(FORK, a=done("a", FORK))
    reply = desk.reply(message("b", "c", lane="requests", request="r1"))
    assert reply.action is Action.DONE
    assert told(reply) == [("c", ("c",))]
    assert desk.entry("b").state is State.DONE
    assert desk.entry("b").lease is None
    assert desk.entry("b").request == "r1"
    (task,) = desk.crew.tasks
    assert (task.run, task.inputs, task.force) == (("b",), {"a": "gs://o/a"}, ())
    assert task.media.generation == 5


def test_an_arrival_tells_all_children():
    reply = Desk(FORK, a=done("a", FORK)).reply(message("b"))
    assert told(reply) == [("c", None), ("d", None)]


def test_a_result_that_is_there_is_not_computed_again_and_the_message_passes():
    desk = Desk(FORK, a=done("a", FORK))
    reply = desk.reply(message("a", "d"))
    assert reply.action is Action.FORWARDED
    assert told(reply) == [("b", ("d",))]
    assert reply.strike is None
    assert not desk.crew.tasks


def test_of_what_is_missing_above_each_is_asked_and_the_targets_are_left_there():
    desk = Desk(JOIN)
    reply = desk.reply(message("c", "c", force=True, request="r1"))
    assert reply.action is Action.ASKED
    assert told(reply) == [("a", ("c",)), ("b", ("c",))]
    assert all(decode(one.data).force for one in reply.letters)
    assert desk.entry("a").wanted == desk.entry("b").wanted == ("c",)
    assert not desk.crew.tasks


def test_what_another_is_at_is_waited_for():
    desk = Desk(CHAIN, a=held("a"))
    reply = desk.reply(message("a", "c"))
    assert reply.action is Action.WAITING
    assert reply.letters == ()
    assert reply.reason == "a is held by other"
    assert desk.entry("a").wanted == ("c",)
    assert desk.entry("a").lease.owner == "other"


@pytest.mark.parametrize(
    "lost", [{"seconds": 0.0}, {"owner": "dead"}], ids=["expired", "known to be dead"]
)
def test_what_another_has_lost_is_taken_over(lost):
    desk = Desk(CHAIN, a=held("a", **lost))
    assert desk.reply(message("a", "a")).action is Action.DONE
    assert desk.entry("a").state is State.DONE


def test_below_a_failure_a_job_is_blocked_with_the_cause_and_tells_what_is_below():
    desk = Desk(CHAIN, a=failed("a"))
    reply = desk.reply(message("b", "c"))
    assert reply.action is Action.BLOCKED
    assert told(reply) == [("c", ("c",))]
    assert desk.entry("b").state is State.BLOCKED
    assert desk.entry("b").error == blocked("b", "a").error
    assert desk.entry("b").attempts == 0
    assert not desk.crew.tasks


def test_a_failure_is_not_tried_again_by_a_mere_message():
    desk = Desk(CHAIN, a=failed("a"))
    reply = desk.reply(message("a", "b"))
    assert (reply.action, reply.reason) == (Action.DROPPED, "failed")
    assert told(reply) == [("b", ("b",))]
    assert not desk.crew.tasks


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
    reply = Desk(FORK).reply(asked)
    assert (reply.action, reply.reason, reply.letters) == (Action.DROPPED, reason, ())


def test_nothing_is_done_about_a_file_that_is_deleted():
    desk = Desk(CHAIN)
    record = evolve(desk.ledger.records[URI], deleted_at=NOW)
    desk.ledger.change([Change(uri=URI, transition=lambda _found: (record, None))])
    assert desk.reply(message("a")).reason == "deleted"
    assert desk.ledger.records[URI] == record


def test_a_ping_leaves_its_trace_on_its_line_and_computes_nothing():
    desk = Desk(FORK)
    reply = desk.reply(message("b", "c", ping=True, request="r1"))
    assert reply.action is Action.PINGED
    assert told(reply) == [("c", ("c",))]
    assert decode(reply.letters[0].data).ping
    assert desk.ledger.records[URI].pings == {"b": Ping(request="r1", at=NOW)}
    assert desk.ledger.records[URI].jobs == {}
    assert not desk.crew.tasks


# --- force -----------------------------------------------------------------------------------


def test_a_forced_target_is_computed_once_a_request_and_its_artifact_is_replaced():
    desk = Desk(CHAIN, a=done("a"))
    forced = message("a", "a", force=True, request="r1")
    assert desk.reply(forced).action is Action.DONE
    assert desk.reply(forced).action is Action.FORWARDED
    assert [task.force for task in desk.crew.tasks] == [("a",)]


def test_a_parent_is_not_forced():
    desk = Desk(CHAIN, a=done("a"), b=done("b"))
    assert desk.reply(message("a", "b", force=True, request="r1")).action is Action.FORWARDED


def test_who_takes_over_a_forced_job_replaces_its_artifact_too():
    desk = Desk(CHAIN, a=evolve(held("a", owner="dead"), request="r1"))
    desk.reply(message("a", "a"))
    assert [task.force for task in desk.crew.tasks] == [("a",)]


# --- results ---------------------------------------------------------------------------------


def test_a_failure_is_recorded_told_and_dead_lettered_with_its_message():
    desk = Desk(CHAIN, answer=failing(Kind.CORRUPT_MEDIA))
    asked = message("a", "b", lane="requests")
    reply = desk.reply(asked)
    assert reply.action is Action.FAILED
    assert desk.entry("a").state is State.FAILED
    assert desk.entry("a").error.kind == Kind.CORRUPT_MEDIA
    assert reply.letters[0].topic == topic_of("b", "requests")
    dead = buried(reply)
    assert (dead.stage, dead.job, dead.kind) == (Stage.RUN, "a", Kind.CORRUPT_MEDIA)
    assert (dead.uri, dead.generation, dead.at) == (URI, 5, NOW)
    assert decode(dead.data) == asked


def test_a_transient_error_gives_the_job_back_and_the_message_comes_again():
    desk = Desk(CHAIN, answer=failing(Kind.UNAVAILABLE, State.QUEUED))
    reply = desk.reply(message("a", "b", lane="requests", request="r1"))
    assert reply.action is Action.DEFERRED
    (again,) = [decode(one.data) for one in reply.letters]
    assert again == message("a", "b", lane="requests", request="r1", attempt=2)
    assert desk.entry("a").state is State.QUEUED
    assert desk.entry("a").lease is None


def test_a_message_that_is_passed_on_begins_with_its_first_attempt():
    reply = Desk(CHAIN).reply(message("a", attempt=3))
    assert [decode(one.data).attempt for one in reply.letters] == [1]


def test_a_transient_error_that_came_back_often_enough_is_a_failure():
    desk = Desk(CHAIN, answer=failing(Kind.UNAVAILABLE, State.QUEUED))
    reply = desk.reply(message("a", attempt=MAX_ATTEMPTS))
    assert reply.action is Action.FAILED
    assert desk.entry("a").state is State.FAILED
    assert buried(reply).kind == Kind.UNAVAILABLE


def test_a_superseded_file_is_no_failure_however_often():
    desk = Desk(CHAIN, answer=failing(Kind.SUPERSEDED, State.QUEUED))
    assert desk.reply(message("a")).action is Action.DEFERRED
    last = desk.reply(message("a", attempt=MAX_ATTEMPTS))
    assert (last.action, last.reason, last.letters) == (Action.DROPPED, "superseded", ())
    assert desk.entry("a").state is State.QUEUED


def test_a_full_disk_stops_the_worker_after_the_replies_to_others():
    full = failing(Kind.DISK_FULL, State.QUEUED)
    desk = Desk(CHAIN, answer=lambda t: (full if t.media.uri == URI else all_done)(t))
    desk.add(message("a"), message("a", uri=OTHER))
    (reply,) = desk.responder.step()
    assert reply.message.uri == OTHER
    with pytest.raises(DiskFull, match="it went wrong"):
        desk.responder.step()
    assert desk.entry("a").state is State.QUEUED
    assert desk.responder.abandon() == []
    assert desk.responder.step() == []


def test_a_result_whose_lease_another_took_changes_nothing_and_the_message_comes_again():
    desk = Desk(CHAIN)

    def taken(task: Task) -> tuple[Result, ...]:
        def take(found: Record | None) -> tuple[Record | None, None]:
            assert found is not None
            return claim(found, CHAIN, ["a"], owner="other", now=NOW, lease_s=60), None

        desk.ledger.change([Change(uri=URI, transition=take)])
        return all_done(task)

    desk.crew._answer = taken
    reply = desk.reply(message("a", "b", attempt=2))
    assert reply.action is Action.LOST
    assert [decode(one.data) for one in reply.letters] == [message("a", "b", attempt=2)]
    assert desk.entry("a").lease.owner == "other"


def test_a_result_of_a_version_that_was_overwritten_meanwhile_is_lost():
    desk = Desk(CHAIN)

    def overwritten(task: Task) -> tuple[Result, ...]:
        newer = MediaFile(uri=URI, generation=6)
        desk.ledger.change([Change(uri=URI, transition=lambda found: arrive(found, newer, NOW))])
        return all_done(task)

    desk.crew._answer = overwritten
    assert desk.reply(message("a")).action is Action.LOST
    assert desk.ledger.records[URI].generation == 6
    assert desk.ledger.records[URI].jobs == {}


# --- what is owed ----------------------------------------------------------------------------


def test_what_others_left_at_a_job_is_told_apart_and_then_struck():
    queued = Entry(
        state=State.QUEUED, fingerprint=FORK.fingerprints["b"], generation=5, wanted=("c", "d")
    )
    desk = Desk(FORK, a=done("a", FORK), b=queued)
    reply = desk.reply(message("b", "c"))
    assert told(reply) == [("c", ("c",)), ("b", ("d",)), ("d", ("d",))]
    assert reply.strike == Strike(
        uri=URI, generation=5, job="b", targets=("c", "d"), wanted_at=None
    )
    assert desk.entry("b").wanted == ("c", "d")  # until the letters are published


def test_what_an_arrival_left_tells_all_children():
    desk = Desk(FORK, a=done("a", FORK), b=done("b", FORK, wanted=(EVERYTHING, "d")))
    reply = desk.reply(message("b", "c"))
    assert told(reply) == [("c", ("c",)), ("b", None), ("c", None), ("d", None)]
    assert reply.strike.targets == ("c", EVERYTHING, "d")


def test_what_a_failed_job_still_owes_is_told_too():
    desk = Desk(FORK, a=done("a", FORK), b=failed("b", FORK, wanted=("d",)))
    reply = desk.reply(message("b", "c"))
    assert told(reply) == [("c", ("c",)), ("b", ("d",)), ("d", ("d",))]
    assert reply.strike.targets == ("c", "d")


def test_what_a_second_delivery_left_stays_until_it_is_told():
    """The second delivery is acknowledged, so the message does not come again if we die now."""
    desk = Desk(CHAIN)
    replies = desk.answer(message("a", "b"), message("a", "b"))
    assert [r.action for r in replies] == [Action.WAITING, Action.DONE]
    assert desk.entry("a").wanted == ("b",)
    assert replies[1].strike.targets == ("b",)
    assert replies[1].strike.wanted_at == desk.entry("a").wanted_at


# --- lanes, dead letters ---------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["live", "requests"])
def test_a_message_keeps_its_lane(lane):
    for desk in (Desk(CHAIN), Desk(CHAIN, a=done("a", wanted=("c",)))):
        reply = desk.reply(message("a", "b", lane=lane))
        assert {one.topic for one in reply.letters} <= {topic_of("a", lane), topic_of("b", lane)}
        assert reply.letters
    (asked,) = Desk(CHAIN).reply(message("b", lane=lane)).letters
    assert asked.topic == topic_of("a", lane)


def test_bytes_that_are_no_message_are_dead():
    desk = Desk(CHAIN)
    desk.responder.add([Received(job="a", data=b"\xff{", handle="h")])
    (reply,) = desk.responder.drain()
    assert (reply.action, reply.message, reply.job) == (Action.DEAD_LETTERED, None, "a")
    assert reply.received.handle == "h"
    dead = buried(reply)
    assert (dead.stage, dead.job, dead.kind) == (Stage.DECODE, "a", Kind.UNREADABLE_MESSAGE)
    assert dead.data == b"\xff{"


def test_a_message_for_a_job_that_is_not_served_here_is_dead():
    desk = Desk(CHAIN, jobs=["a"])
    asked = message("b")
    desk.responder.add([Received(job="a", data=encode(asked))])
    (reply,) = desk.responder.drain()
    dead = buried(reply)
    assert (dead.stage, dead.job, dead.uri, dead.generation) == (Stage.ROUTE, "a", URI, 5)
    assert "'b'" in dead.error
    assert dead.data == encode(asked)
    assert desk.ledger.records[URI].jobs == {}


def test_a_dead_letter_does_not_keep_others_waiting():
    desk = Desk(CHAIN)
    desk.responder.add([Received(job="a", data=b"x"), Received(job="a", data=encode(message("a")))])
    actions = {reply.action for reply in desk.responder.drain()}
    assert actions == {Action.DEAD_LETTERED, Action.DONE}


# --- a ledger that is away -------------------------------------------------------------------


@pytest.mark.parametrize("done_first", [0, 1, 2])
def test_messages_stay_when_the_ledger_is_away_before_the_claim(done_first):
    desk = Desk(CHAIN)
    desk.add(message("a"), message("a", uri=OTHER))
    desk.ledger.away, desk.ledger.done_first = True, done_first
    for _ in range(3):
        with pytest.raises(Unavailable):
            desk.responder.step()
    assert desk.responder.pending == 2
    desk.ledger.away = False
    replies = list(desk.responder.drain())
    assert sorted(r.received.handle for r in replies) == [0, 1]
    assert {r.action for r in replies} == {Action.DONE}
    assert len(desk.crew.tasks) == 2


@pytest.mark.parametrize("done_first", [0, 1, 2])
def test_results_stay_when_the_ledger_is_away_before_they_are_settled(done_first):
    desk = Desk(CHAIN)

    def goes_away(task: Task) -> tuple[Result, ...]:
        desk.ledger.away, desk.ledger.done_first = True, done_first
        return all_done(task)

    desk.crew._answer = goes_away
    desk.add(message("a", "b"), message("a", "b", uri=OTHER))
    with pytest.raises(Unavailable):
        desk.responder.step()
    assert desk.responder.pending == 2
    desk.ledger.away = False
    replies = list(desk.responder.drain())
    assert sorted(r.received.handle for r in replies) == [0, 1]
    assert desk.entry("a").state is desk.entry("a", OTHER).state is State.DONE
    assert {r.action for r in replies} == {Action.DONE}
    assert [told(reply) for reply in replies] == [[("b", ("b",))]] * 2
    assert len(desk.crew.tasks) == 2


def test_a_failure_is_dead_lettered_even_if_the_ledger_went_away_after_recording_it():
    desk = Desk(CHAIN)

    def goes_away(task: Task) -> tuple[Result, ...]:
        desk.ledger.away, desk.ledger.done_first = True, 1
        return failing(Kind.TIMEOUT)(task)

    desk.crew._answer = goes_away
    desk.add(message("a"))
    with pytest.raises(Unavailable):
        desk.responder.step()
    desk.ledger.away = False
    (reply,) = desk.responder.drain()
    assert reply.action is Action.FAILED
    assert buried(reply).kind == Kind.TIMEOUT


def test_replies_that_were_ready_are_not_lost_with_what_fails_after_them():
    desk = Desk(CHAIN)
    desk.responder.add([Received(job="a", data=b"x", handle="dead")])
    desk.add(message("a"))
    desk.ledger.away = True
    with pytest.raises(Unavailable):
        desk.responder.step()
    desk.ledger.away = False
    assert {r.received.handle for r in desk.responder.drain()} == {"dead", 0}


# --- leases and room -------------------------------------------------------------------------


class SlowCrew(RecordingCrew):
    """Nothing is finished until it may be."""

    ready = False

    def collect(self, timeout_s: float):
        return super().collect(timeout_s) if self.ready else []


def slow_desk() -> Desk:
    desk = Desk(CHAIN)
    desk.crew = desk.responder.crew = SlowCrew()
    desk.add(message("a"), message("a", uri=OTHER))
    desk.responder.step()
    return desk


def expires_s(desk: Desk, uri: str = URI) -> float:
    return (desk.entry("a", uri).lease.expires_at - NOW).total_seconds()


def test_leases_are_renewed_while_jobs_run_and_not_more_often_than_needed():
    desk = slow_desk()
    assert expires_s(desk) == 60
    desk.clock.pass_s(19)
    desk.responder.step()
    assert expires_s(desk) == 60
    desk.clock.pass_s(1)
    desk.responder.step()
    assert expires_s(desk) == expires_s(desk, OTHER) == 80
    desk.clock.pass_s(50)
    desk.responder.step()
    assert expires_s(desk) == 130


def test_a_lease_that_another_took_is_left_to_it():
    desk = slow_desk()
    taken = held("a", owner="other", seconds=500)
    record = evolve(desk.ledger.records[URI], jobs={"a": taken})
    desk.ledger.change([Change(uri=URI, transition=lambda _found: (record, None))])
    desk.clock.pass_s(30)
    desk.responder.step()
    assert desk.entry("a") == taken
    desk.crew.ready = True
    actions = {r.message.uri: r.action for r in desk.responder.drain()}
    assert actions == {URI: Action.LOST, OTHER: Action.DONE}


def test_who_abandons_tells_whose_leases_are_nobodys_and_ignores_late_results():
    desk = slow_desk()
    desk.add(message("b"))
    assert sorted(desk.responder.abandon()) == ["me/1", "me/2", "me/3"]
    assert desk.responder.pending == 0
    desk.crew.ready = True
    desk.add(message("a", uri=OTHER))
    desk.responder.lost = lambda lease: lease.owner in {"me/1", "me/2"}
    (reply,) = desk.responder.drain()
    assert (reply.action, reply.received.handle) == (Action.DONE, 0)
    assert desk.entry("a").state is State.RUNNING


def test_no_more_is_claimed_than_there_is_work_for_a_moment():
    desk = Desk(CHAIN)
    desk.crew = desk.responder.crew = SlowCrew(processes=2)
    assert desk.responder.room == 4
    uris = [f"gs://b/{i}.wav" for i in range(7)]
    for uri in uris:
        arrived = MediaFile(uri=uri, generation=5)
        desk.ledger.change([Change(uri=uri, transition=lambda r, m=arrived: arrive(r, m, NOW))])
    desk.add(*(message("a", uri=uri) for uri in uris))
    desk.responder.step()
    assert (desk.responder.running, desk.responder.pending, desk.responder.room) == (4, 7, 0)
    desk.crew.ready = True
    assert len(list(desk.responder.drain())) == 7


def test_two_messages_for_one_file_are_answered_one_after_the_other():
    desk = Desk(CHAIN)
    replies = desk.answer(message("a", "b"), message("b", "b"))
    assert {r.message.job: r.action for r in replies} == {"a": Action.DONE, "b": Action.WAITING}
    assert desk.entry("a").wanted == ("b",)
    (told_to_a,) = [r for r in replies if r.message.job == "a"]
    assert told(told_to_a) == [("b", ("b",))]


# --- what is logged --------------------------------------------------------------------------


def test_a_reply_says_what_is_logged_of_it():
    desk = Desk(CHAIN, answer=failing(Kind.TIMEOUT))
    fields = desk.reply(message("a", lane="requests", request="r1")).fields()
    assert fields["file"] == URI
    assert (fields["job"], fields["generation"], fields["lane"]) == ("a", 5, "requests")
    assert (fields["request"], fields["message_id"]) == ("r1", "0")
    assert (fields["kind"], fields["error"]) == (Kind.TIMEOUT, "it went wrong")
