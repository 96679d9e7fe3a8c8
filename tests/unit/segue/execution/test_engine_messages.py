"""The engine in a stream: every decision, every result, and nothing lost or doubled on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from segue.errors import DiskFull, Kind, TransientError, Unavailable
from segue.execution.engine import Engine
from segue.execution.reply import MAX_HOPS, Reply, clear_all
from segue.execution.work import MAX_ATTEMPTS, ReceivedMessage
from segue.log import Action
from segue.model import dead_letter
from segue.model.dead_letter import DeadLetter, Stage
from segue.model.graph import Graph
from segue.model.ledger import Change, Changed, Snapshot
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message, describe_arrival, encode_message
from segue.model.queue import DEAD_TOPIC
from segue.model.record import EVERYONE, NOBODY, Entry, Failure, Lease, Ping, Record, State, evolve
from segue.model.transitions import Result, arrive, build_blocked_result, claim
from segue.worker.protocol import Report, Task
from segue_support.recording_pool import RecordingPool, complete_jobs
from segue_support.simulator.store import MemoryStore
from segue_support.stream import NOW, URI, Clock, CountingLedger, build_graph

LEASE_S = 60.0
OTHER = "gs://b/b.wav"
CHAIN = build_graph({"a": "", "b": "a", "c": "b"})
FORK = build_graph({"a": "", "b": "a", "c": "b", "d": "b"})
JOIN = build_graph({"a": "", "b": "", "c": "ab", "d": "c"})


class AwayLedger(CountingLedger):
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
    """The engine of one pipeline with all that it needs."""

    def __init__(
        self,
        graph: Graph,
        served: str,
        *,
        answer: Callable[[Task], tuple[Result, ...]] = complete_jobs,
        pool: RecordingPool | None = None,
        results: Sequence[Entry] = (),
    ) -> None:
        self.clock = Clock()
        self.graph = graph
        found = {graph.fingerprints[entry.job]: entry for entry in results}
        self.ledger = AwayLedger(
            Record(uri=uri, version="5", order=5, arrived_at=NOW, results=found)
            for uri in (URI, OTHER)
        )
        self.pool = pool or RecordingPool(answer)
        self.pipeline = served
        self.dead = {"dead"}  # owners
        self.count = 0
        self.engine = Engine(
            graph=graph,
            ledger=self.ledger,
            pool=self.pool,
            artifacts=MemoryStore("gs://o"),
            served=frozenset(served),
            clock=self.clock,
            owner=self.name_owner,
            lost=lambda lease: lease.owner in self.dead,
            lease_s=LEASE_S,
        )

    def name_owner(self) -> str:
        self.count += 1
        return f"me/{self.count}"

    def add(self, *messages: Message) -> None:
        self.engine.add_messages(
            [
                ReceivedMessage(
                    pipeline=self.pipeline,
                    data=encode_message(m),
                    handle=number,
                    message_id=str(number),
                )
                for number, m in enumerate(messages)
            ]
        )

    def drain(self) -> list[Reply]:
        return [one for one in self.engine.drain() if isinstance(one, Reply)]

    def reply(self, message: Message) -> Reply:
        self.add(message)
        (reply,) = self.drain()
        return reply

    def record(self, uri: str = URI) -> Record:
        return self.ledger.records[uri]

    def entry(self, job: str, uri: str = URI) -> Entry:
        return self.record(uri).results[self.graph.fingerprints[job]]

    def change(self, transition: Callable[[Record], Record]) -> None:
        """Another process changes the record of the first file."""

        def change(found: Record | None) -> tuple[Record, None]:
            assert found is not None
            return transition(found), None

        self.ledger.change([Change(uri=URI, transition=change)])


def done(job: str, **more: Any) -> Entry:
    checksums = {"json": f"sha256:{job}"}
    return Entry(job=job, state=State.DONE, order=5, checksums=checksums, attempts=1, **more)


def failed(job: str, **more: Any) -> Entry:
    error = Failure(kind="timeout", type="JobTimeout", message="m")
    return Entry(job=job, state=State.FAILED, order=5, error=error, attempts=1, **more)


def held(job: str, *, owner: str = "other", seconds: float = 30, **more: Any) -> Entry:
    lease = Lease(owner=owner, expires_at=NOW + timedelta(seconds=seconds))
    return Entry(job=job, state=State.RUNNING, order=5, lease=lease, attempts=1, **more)


def queued(job: str, *notify: str) -> Entry:
    return Entry(job=job, state=State.QUEUED, order=5, notify=notify, notify_at=NOW)


def event(trigger: str, uri: str = URI, **more: Any) -> Message:
    return Message(uri=uri, version="5", order=5, trigger=trigger, **more)


def request(*targets: str, uri: str = URI, **more: Any) -> Message:
    return Message(uri=uri, version="5", order=5, targets=targets, **more)


def told(reply: Reply) -> list[tuple[str, str]]:
    """The events that a reply sends: which, and to which topic."""
    return [(m.trigger, t) for t, m in list_messages(reply) if m.trigger is not None]


def asked(reply: Reply) -> list[tuple[str, tuple[str, ...]]]:
    """The requests that a reply sends: to whom, and for what."""
    sent = [(t, m.targets) for t, m in list_messages(reply) if m.trigger is None]
    return [(topic.removeprefix("inbox-"), targets) for topic, targets in sent]


def list_messages(reply: Reply) -> list[tuple[str, Message]]:
    return [
        (one.topic, decode_message(one.data)) for one in reply.envelopes if one.topic != DEAD_TOPIC
    ]


def find_dead_letter(reply: Reply) -> DeadLetter:
    (found,) = [one for one in reply.envelopes if one.topic == DEAD_TOPIC]
    return dead_letter.decode_dead_letter(found.data)


def failing(kind: Kind, state: State = State.FAILED) -> Callable[[Task], tuple[Result, ...]]:
    error = Failure(kind=kind, type="E", message="it went wrong")
    return lambda task: tuple(Result(job=job, state=state, error=error) for job in task.run)


# --- events ----------------------------------------------------------------------------------


def test_an_event_runs_the_child_and_each_other_pipeline_below_is_told():
    system = System(FORK, "b", results=[done("a")])
    reply = system.reply(event("a"))
    assert reply.action is Action.DONE
    assert told(reply) == [("b", "done-b")]
    assert asked(reply) == []
    assert reply.clear is None
    assert (system.entry("b").state, system.entry("b").lease) == (State.DONE, None)
    (task,) = system.pool.tasks
    assert (task.run, task.owner, task.media.version) == (("b",), "me/1", "5")
    name = f"a/{FORK.fingerprints['a']}/a.wav/5.json"
    assert (task.inputs, task.checksums) == ({"a": name}, {"a": "sha256:a"})


def test_all_jobs_of_a_pipeline_that_an_event_leads_to_run_in_one_task():
    system = System(FORK, "abd")
    reply = system.reply(event("source"))
    assert [task.run for task in system.pool.tasks] == [("a", "b", "d")]
    assert told(reply) == [("b", "done-b")]
    assert (system.ledger.reads, system.ledger.writes) == (1, 2)


def test_a_pipeline_with_two_children_is_told_once():
    graph = build_graph({"a": "", "b": "a", "c": "a"}, {"both": ("b", "c")})
    assert told(System(graph, "a").reply(event("source"))) == [("a", "done-a")]


def test_a_new_files_event_saves_the_read():
    system = System(CHAIN, "a")
    new = MediaFile(uri="gs://b/new.wav", version="5", order=5, size_bytes=7)

    def transition(found: Record | None) -> tuple[Record, None]:
        return arrive(found, new, NOW)[0], None

    known = Snapshot(record=None)
    [changed] = system.ledger.change([Change(uri=new.uri, transition=transition, known=known)])
    assert changed.snapshot.record is not None
    assert changed.snapshot.revision is not None
    arrived = describe_arrival(changed.snapshot.record, changed.snapshot.revision)
    message = event("source", new.uri, arrived=arrived)
    assert system.reply(message).action is Action.DONE
    assert (system.ledger.reads, system.ledger.writes) == (0, 3)
    assert system.pool.tasks[0].media.size_bytes == 7
    again = system.reply(message)
    assert (again.action, told(again)) == (Action.FORWARDED, [("a", "done-a")])
    assert (system.ledger.reads, system.ledger.writes) == (1, 3), "it has changed since"
    assert len(system.pool.tasks) == 1


def test_a_result_that_is_there_is_not_computed_again_and_the_event_passes():
    system = System(FORK, "a", results=[done("a")])
    reply = system.reply(event("source"))
    assert reply.action is Action.FORWARDED
    assert told(reply) == [("a", "done-a")]
    assert not system.pool.tasks


def test_the_same_event_is_forwarded_again_and_another_parents_is_not():
    system = System(JOIN, "c", results=[done("a"), done("b")])
    assert told(system.reply(event("a"))) == [("c", "done-c")]
    assert told(system.reply(event("a"))) == [("c", "done-c")]
    other = system.reply(event("b"))
    assert (other.action, other.envelopes) == (Action.DROPPED, ())
    assert len(system.pool.tasks) == 1


def test_an_event_tells_of_a_result_that_was_computed_for_a_request_or_in_a_backfill():
    system = System(JOIN, "c", results=[done("a"), done("b"), done("c")])
    assert told(system.reply(event("b"))) == [("c", "done-c")]
    assert told(system.reply(event("a"))) == []
    assert told(system.reply(event("b"))) == [("c", "done-c")]


def test_an_event_does_not_ask_for_the_other_parents():
    """They send events of their own."""
    system = System(JOIN, "c", results=[done("a")])
    reply = system.reply(event("a"))
    assert (reply.action, reply.envelopes) == (Action.WAITING, ())
    assert reply.reason == "other parents have not finished yet"
    assert system.ledger.writes == 0


def test_an_event_asks_for_its_own_line_if_that_is_stale():
    """The parent was deployed anew since, or its artifact is damaged."""
    system = System(CHAIN, "c")
    reply = system.reply(event("b"))
    assert reply.action is Action.ASKED
    assert asked(reply) == [("a", ("c",))]
    assert system.entry("c").notify == (EVERYONE,)


def test_what_another_is_at_is_left_to_it_with_those_to_tell():
    system = System(CHAIN, "a", results=[held("a")])
    reply = system.reply(event("source"))
    assert (reply.action, reply.reason) == (Action.WAITING, "a is held by other")
    assert reply.envelopes == ()
    assert system.entry("a") == held("a", notify=(EVERYONE,), notify_at=NOW)


@pytest.mark.parametrize(
    "lost", [{"seconds": 0.0}, {"owner": "dead"}], ids=["expired", "known to be dead"]
)
def test_what_another_has_lost_is_taken_over(lost):
    system = System(CHAIN, "a", results=[held("a", **lost)])
    assert system.reply(event("source")).action is Action.DONE
    assert (system.entry("a").state, system.entry("a").attempts) == (State.DONE, 2)


def test_below_a_failure_a_job_is_blocked_with_the_cause_and_its_children_are_told():
    system = System(CHAIN, "b", results=[failed("a")])
    reply = system.reply(event("a"))
    assert (reply.action, reply.reason) == (Action.BLOCKED, "b is blocked by a")
    assert told(reply) == [("b", "done-b")]
    assert system.entry("b").state is State.BLOCKED
    assert system.entry("b").error == build_blocked_result("b", "a").error
    assert system.entry("b").attempts == 0
    assert told(system.reply(event("a"))) == [("b", "done-b")], "whoever sent it may have died"
    assert not system.pool.tasks


def test_what_is_not_for_a_file_is_passed_on_as_such():
    unfit = Entry(job="a", state=State.NOT_APPLICABLE, order=5, attempts=1)
    system = System(CHAIN, "b", results=[unfit])
    reply = system.reply(event("a"))
    assert told(reply) == [("b", "done-b")]
    assert system.entry("b").state is State.NOT_APPLICABLE


def test_a_failure_is_not_tried_again_by_a_mere_event():
    system = System(CHAIN, "a", results=[failed("a")])
    reply = system.reply(event("source"))
    assert (reply.action, told(reply)) == (Action.FORWARDED, [("a", "done-a")])
    assert not system.pool.tasks


def test_an_event_of_a_job_with_children_in_this_very_pipeline_reaches_them():
    """c runs in another pipeline; what is below it here was not run with it."""
    graph = build_graph({"a": "", "b": "a", "c": "b", "d": "c"}, {"abd": ("a", "b", "d")})
    system = System(graph, "abd")
    assert told(system.reply(event("source"))) == [("b", "done-b")]
    assert [task.run for task in system.pool.tasks] == [("a", "b")]
    assert told(System(graph, "c", results=[done("b")]).reply(event("b"))) == [("c", "done-c")]
    finished = [done("a"), done("b"), done("c", notify=(EVERYONE,), notify_at=NOW)]
    system = System(graph, "abd", results=finished)
    assert ("c", "done-c") in told(system.reply(request("d")))


# --- requests --------------------------------------------------------------------------------


def test_a_request_runs_what_it_needs_here_and_asks_the_next_pipeline():
    system = System(FORK, "b", results=[done("a"), queued("c", NOBODY)])
    reply = system.reply(request("c", request="r1"))
    assert reply.action is Action.DONE
    assert asked(reply) == [("c", ("c",))]
    assert told(reply) == [], "no sibling learns of it"
    (message,) = [m for _, m in list_messages(reply)]
    assert message.request == "r1"


def test_what_a_request_wants_here_is_run_and_nobody_is_told():
    system = System(FORK, "b", results=[done("a"), queued("b", NOBODY)])
    reply = system.reply(request("b"))
    assert (reply.action, reply.envelopes) == (Action.DONE, ())
    assert (system.entry("b").state, system.entry("b").notify) == (State.DONE, ())


def test_a_request_that_cannot_begin_here_asks_whoever_can():
    system = System(JOIN, "d")
    reply = system.reply(request("d", request="r1"))
    assert reply.action is Action.ASKED
    assert asked(reply) == [("a", ("d",)), ("b", ("d",))]
    assert system.entry("d").notify == (NOBODY,)
    assert not system.pool.tasks


@pytest.mark.parametrize("hops", [0, MAX_HOPS - 1, MAX_HOPS])
def test_a_request_is_passed_on_only_so_often_without_any_result(hops):
    """Two deployments may each think that the other one has to begin."""
    system = System(CHAIN, "c")
    passed = [m.hops for _, m in list_messages(system.reply(request("c", hops=hops)))]
    assert passed == ([] if hops == MAX_HOPS else [hops + 1])
    assert system.entry("c").notify == (NOBODY,), "for the sweep"
    system = System(CHAIN, "a", results=[queued("c", NOBODY)])
    assert [m.hops for _, m in list_messages(system.reply(request("c", hops=hops)))] == [0]


def test_a_request_for_what_another_is_at_waits_for_it():
    system = System(CHAIN, "a", results=[held("a")])
    reply = system.reply(request("c"))
    assert (reply.action, reply.envelopes) == (Action.WAITING, ())
    assert system.entry("c").notify == (NOBODY,)
    assert system.entry("a") == held("a")


def test_a_request_below_a_failure_is_answered_with_what_is_blocked():
    system = System(CHAIN, "b", results=[failed("a"), queued("c", NOBODY)])
    reply = system.reply(request("c"))
    assert (reply.action, reply.envelopes) == (Action.BLOCKED, ())
    assert system.entry("b").state is system.entry("c").state is State.BLOCKED
    assert system.entry("c").notify == ()


def test_a_request_for_what_is_there_does_nothing():
    system = System(CHAIN, "c", results=[done("c")])
    reply = system.reply(request("c"))
    assert (reply.action, reply.reason) == (Action.DROPPED, "there is nothing to do")
    assert (reply.envelopes, system.ledger.writes) == ((), 0)


def test_whoever_finishes_a_result_goes_on_with_all_that_is_wanted_by_then():
    system = System(FORK, "bcd", results=[done("a")])

    def answer(task: Task) -> tuple[Result, ...]:
        if task.run == ("b", "c"):
            want = {system.graph.fingerprints["d"]: queued("d", NOBODY)}
            system.change(lambda found: evolve(found, results={**found.results, **want}))
        return complete_jobs(task)

    system.pool.answer = answer
    reply = system.reply(request("c"))
    assert [task.run for task in system.pool.tasks] == [("b", "c"), ("d",)]
    assert [r.job for r in reply.results] == ["b", "c", "d"]
    assert system.entry("d").state is State.DONE


# --- what nothing can be done about ----------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (event("source", "gs://b/unknown.wav"), "unknown file"),
        (evolve(event("source"), version="4", order=4), "superseded"),
        (evolve(request("a"), version="6", order=6), "superseded"),
        (request("gone"), "there is nothing to do"),
        (event("gone"), "there is nothing to do"),
        (event("c"), "there is nothing to do"),
    ],
)
def test_what_nothing_can_be_done_about_is_dropped(message, reason):
    system = System(CHAIN, "a")
    reply = system.reply(message)
    assert (reply.action, reply.reason, reply.envelopes) == (Action.DROPPED, reason, ())
    assert system.ledger.writes == 0


def test_a_target_that_the_graph_has_lost_does_not_hold_up_the_others():
    assert System(CHAIN, "a").reply(request("gone", "a")).action is Action.DONE


def test_nothing_is_done_about_a_file_that_is_deleted():
    system = System(CHAIN, "a")
    system.change(lambda found: evolve(found, deleted_at=NOW))
    before = system.record()
    assert system.reply(event("source")).reason == "deleted"
    assert system.record() is before


# --- pings -----------------------------------------------------------------------------------


def test_a_ping_leaves_its_trace_on_its_line_and_computes_nothing():
    system = System(FORK, "b")
    ping = event("a", ping=True, request="r1", targets=("c",))
    reply = system.reply(ping)
    assert reply.action is Action.PINGED
    assert list_messages(reply) == [("inbox-c", evolve(ping, trigger="b"))]
    assert system.record().pings == {"b": Ping(request="r1", at=NOW, triggered_by="a@b")}
    assert system.record().results == {}
    assert not system.pool.tasks


def test_a_ping_passes_each_job_once_and_again_when_its_message_comes_again():
    system = System(JOIN, "c")
    first = event("a", ping=True, request="r1")
    assert told(system.reply(first)) == [("c", "inbox-d")]
    assert told(system.reply(event("b", ping=True, request="r1"))) == []
    assert told(system.reply(first)) == [("c", "inbox-d")]


def test_a_ping_passes_all_jobs_of_a_pipeline_at_once():
    system = System(FORK, "abd")
    reply = system.reply(event("source", ping=True, request="r1"))
    assert told(reply) == [("b", "inbox-c")]
    assert set(system.record().pings) == {"a", "b", "d"}


# --- damaged artifacts -----------------------------------------------------------------------


def damaged(parent: str) -> Callable[[Task], tuple[Result, ...]]:
    error = Failure(kind=Kind.DAMAGED_INPUT, type="DamagedInput", message="a has changed")

    def answer(task: Task) -> tuple[Result, ...]:
        if parent not in task.inputs:
            return complete_jobs(task)
        first, *below = task.run
        return (
            Result(job=first, state=State.QUEUED, error=error, damaged=parent),
            *(Result(job=job, state=State.QUEUED, error=error) for job in below),
        )

    return answer


@pytest.mark.parametrize("message", [event("a"), request("b")])
def test_a_damaged_artifact_of_a_parent_elsewhere_is_asked_for(message):
    system = System(CHAIN, "b", answer=damaged("a"), results=[done("a")])
    reply = system.reply(message)
    assert reply.action is Action.ASKED
    assert asked(reply) == [("a", ("b",))]
    a, b = system.entry("a"), system.entry("b")
    assert (a.state, a.checksums) == (State.QUEUED, {})
    assert (b.state, b.lease) == (State.QUEUED, None)
    assert b.notify == ((EVERYONE,) if message.trigger is not None else (NOBODY,))
    assert told(System(CHAIN, "a", results=[a, b]).reply(request("b"))) == []


def test_a_damaged_artifact_of_a_parent_here_is_computed_again_at_once():
    system = System(CHAIN, "abc", answer=damaged("a"), results=[done("a")])
    reply = system.reply(request("c"))
    assert reply.action is Action.DONE
    assert [task.run for task in system.pool.tasks] == [("b", "c"), ("a", "b", "c")]
    assert system.entry("a").attempts == 2


def test_a_parent_that_somebody_has_computed_meanwhile_is_kept_and_read():
    system = System(CHAIN, "b", results=[done("a")])
    newer = evolve(done("a"), checksums={"json": "sha256:newer"})

    def answer(task: Task) -> tuple[Result, ...]:
        if len(system.pool.tasks) > 1:
            return complete_jobs(task)
        made = {system.graph.fingerprints["a"]: newer}
        system.change(lambda found: evolve(found, results={**found.results, **made}))
        return damaged("a")(task)

    system.pool.answer = answer
    assert system.reply(event("a")).action is Action.DONE
    assert system.entry("a") == newer
    assert system.pool.tasks[1].checksums == {"a": "sha256:newer"}


def test_an_artifact_that_is_damaged_each_time_is_a_failure_in_the_end():
    parent = evolve(done("a"), attempts=MAX_ATTEMPTS)
    system = System(CHAIN, "bc", answer=damaged("a"), results=[parent])
    reply = system.reply(request("c"))
    assert reply.action is Action.DONE
    dead = find_dead_letter(reply)
    assert (dead.kind, dead.job) == (Kind.DAMAGED_INPUT, "b")
    assert system.entry("b").state is State.FAILED
    assert system.entry("c").state is State.BLOCKED


# --- the disk --------------------------------------------------------------------------------


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
    system = System(CHAIN, "a")
    disk = system.engine.artifacts = Disk(system)
    assert system.reply(event("source")).action is Action.DONE
    assert disk.seen == [State.RUNNING]


def test_a_result_that_did_not_reach_the_disk_is_computed_again():
    system = System(CHAIN, "a")
    disk = system.engine.artifacts = Disk(system)
    disk.error = Unavailable("the disk is away; check it")
    reply = system.reply(event("source"))
    assert reply.action is Action.DEFERRED
    assert (system.entry("a").state, system.entry("a").checksums) == (State.QUEUED, {})
    disk.error = None
    ((_, again),) = list_messages(reply)
    assert again.attempt == 2
    assert system.reply(again).action is Action.DONE
    assert [task.run for task in system.pool.tasks] == [("a",), ("a",)]


def test_an_artifact_for_which_the_disk_had_no_room_leaves_the_message_without_a_reply():
    system = System(CHAIN, "a")
    disk = system.engine.artifacts = Disk(system)
    disk.error = DiskFull("no room is left; free some space")
    system.add(event("source"))
    with pytest.raises(DiskFull, match="no room is left"):
        system.engine.step()
    assert (system.entry("a").state, system.entry("a").checksums) == (State.QUEUED, {})


def test_a_full_disk_stops_the_worker_after_the_replies_to_others():
    full = failing(Kind.DISK_FULL, State.QUEUED)
    system = System(CHAIN, "a", answer=lambda t: (full if t.media.uri == URI else complete_jobs)(t))
    system.add(event("source"), event("source", OTHER))
    (reply,) = system.engine.step()
    assert isinstance(reply, Reply)
    assert reply.message is not None
    assert reply.message.uri == OTHER
    with pytest.raises(DiskFull, match="it went wrong"):
        system.engine.step()
    assert system.entry("a").state is State.QUEUED
    assert system.engine.abandon() == []
    assert system.engine.step() == []


# --- results ---------------------------------------------------------------------------------


def test_a_failure_is_recorded_told_and_dead_lettered_with_its_message():
    system = System(CHAIN, "a", answer=failing(Kind.CORRUPT_MEDIA))
    message = event("source", request="r1")
    reply = system.reply(message)
    assert reply.action is Action.DONE
    assert system.entry("a").state is State.FAILED
    assert system.entry("a").error.kind == Kind.CORRUPT_MEDIA
    assert told(reply) == [("a", "done-a")]
    dead = find_dead_letter(reply)
    assert (dead.stage, dead.pipeline, dead.job) == (Stage.RUN, "a", "a")
    assert (dead.kind, dead.uri, dead.version, dead.order) == (Kind.CORRUPT_MEDIA, URI, "5", 5)
    assert dead.at == NOW
    assert decode_message(dead.data) == message


@pytest.mark.parametrize("attempt", [1, MAX_ATTEMPTS])
def test_a_file_without_space_comes_again_and_is_dead_lettered_in_the_end(attempt):
    system = System(CHAIN, "a", answer=failing(Kind.NO_SPACE))
    reply = system.reply(event("source", attempt=attempt))
    is_last = attempt == MAX_ATTEMPTS
    assert reply.action is (Action.DONE if is_last else Action.DEFERRED)
    assert system.entry("a").state is (State.FAILED if is_last else State.QUEUED)
    if is_last:
        assert find_dead_letter(reply).kind == Kind.NO_SPACE


@pytest.mark.parametrize("message", [event("source"), request("b", request="r1")])
def test_a_transient_error_gives_the_job_back_and_the_message_comes_again(message):
    system = System(CHAIN, "a", answer=failing(Kind.UNAVAILABLE, State.QUEUED))
    reply = system.reply(message)
    assert reply.action is Action.DEFERRED
    assert list_messages(reply) == [("inbox-a", evolve(message, attempt=2))]
    assert (system.entry("a").state, system.entry("a").lease) == (State.QUEUED, None)


def test_what_a_line_has_finished_before_a_transient_error_stays_and_is_told_of_in_the_end():
    system = System(FORK, "ab")
    away = failing(Kind.UNAVAILABLE, State.QUEUED)
    system.pool.answer = lambda task: (
        *(r for r in complete_jobs(task) if r.job == "a"),
        *(r for r in away(task) if r.job == "b"),
    )
    reply = system.reply(event("source"))
    assert (reply.action, told(reply)) == (Action.DEFERRED, [("source", "inbox-ab")])
    assert (system.entry("a").state, system.entry("b").state) == (State.DONE, State.QUEUED)
    system.pool.answer = complete_jobs
    ((_, again),) = list_messages(reply)
    reply = system.reply(again)
    assert told(reply) == [("b", "done-b")]
    assert [task.run for task in system.pool.tasks] == [("a", "b"), ("b",)]


def test_a_new_files_event_does_not_vouch_for_the_record_when_it_comes_again():
    """It has changed by then: it would only cost a read that fails."""
    system = System(CHAIN, "a", answer=failing(Kind.UNAVAILABLE, State.QUEUED))
    arrived = describe_arrival(system.record(), "1")
    ((_, again),) = list_messages(system.reply(event("source", arrived=arrived)))
    assert again.arrived is None


def test_an_event_begins_with_its_first_attempt():
    reply = System(CHAIN, "a").reply(event("source", attempt=3))
    assert [m.attempt for _, m in list_messages(reply)] == [1]


def test_a_transient_error_that_came_back_often_enough_is_a_failure():
    system = System(CHAIN, "ab", answer=failing(Kind.UNAVAILABLE, State.QUEUED))
    reply = system.reply(event("source", attempt=MAX_ATTEMPTS))
    assert reply.action is Action.DONE
    assert system.entry("a").state is State.FAILED
    assert system.entry("b").error == build_blocked_result("b", "a").error
    dead = find_dead_letter(reply)
    assert (dead.kind, dead.job) == (Kind.UNAVAILABLE, "a")


def test_a_superseded_file_is_no_failure_however_often():
    system = System(CHAIN, "a", answer=failing(Kind.SUPERSEDED, State.QUEUED))
    assert system.reply(event("source")).action is Action.DEFERRED
    last = system.reply(event("source", attempt=MAX_ATTEMPTS))
    assert (last.action, last.reason, last.envelopes) == (Action.DROPPED, "superseded", ())
    assert system.entry("a").state is State.QUEUED


def test_a_result_whose_lease_another_took_changes_nothing_and_the_message_comes_again():
    system = System(CHAIN, "a")
    error = Failure(kind=Kind.TIMEOUT, type="E", message="m")

    def answer(task: Task) -> tuple[Result, ...]:
        system.change(lambda r: claim(r, CHAIN, ["a"], owner="other", now=NOW, lease_s=60))
        return (Result(job="a", state=State.FAILED, error=error),)

    system.pool.answer = answer
    message = event("source", attempt=2)
    reply = system.reply(message)
    assert reply.action is Action.LOST
    assert list_messages(reply) == [("inbox-a", message)]
    assert len(reply.envelopes) == 1, "what was not recorded is not dead-lettered"
    assert system.entry("a").lease.owner == "other"


def test_a_result_of_a_version_that_was_overwritten_meanwhile_is_lost():
    system = System(CHAIN, "a")

    def answer(task: Task) -> tuple[Result, ...]:
        newer = MediaFile(uri=URI, version="6", order=6)
        system.change(lambda found: arrive(found, newer, NOW)[0])
        return complete_jobs(task)

    system.pool.answer = answer
    assert system.reply(event("source")).action is Action.LOST
    assert (system.record().order, system.record().results) == (6, {})


# --- those who are to be told ----------------------------------------------------------------


def test_those_whom_others_left_are_told_and_then_cleared():
    system = System(FORK, "b", results=[done("a"), queued("b", EVERYONE)])
    reply = system.reply(request("b"))
    assert told(reply) == [("b", "done-b")]
    assert system.entry("b").notify == (EVERYONE,), "until the envelopes are published"
    assert reply.clear is not None
    (one,) = reply.clear.notified
    assert (reply.clear.uri, reply.clear.order) == (URI, 5)
    assert (one.fingerprint, one.notify_at) == (FORK.fingerprints["b"], NOW)


@pytest.mark.parametrize("found", [done, failed])
def test_those_whom_a_dead_worker_or_a_backfill_left_are_told_on_request(found):
    left = found("b", notify=(EVERYONE,), notify_at=NOW)
    system = System(FORK, "b", results=[done("a"), left])
    reply = system.reply(request("b"))
    assert told(reply) == [("b", "done-b")]
    assert reply.clear is not None
    assert system.ledger.writes == 0


def test_those_who_were_told_on_request_are_not_told_again_by_an_event():
    system = System(FORK, "b", results=[done("a"), queued("b", EVERYONE)])
    reply = system.reply(request("b"))
    assert told(reply) == [("b", "done-b")]
    clear_all([reply.clear], ledger=system.ledger)
    assert told(system.reply(event("a"))) == []


def test_an_event_notifies_of_what_is_computed_on_its_way_and_others_wait_for():
    system = System(CHAIN, "ac", results=[queued("a", EVERYONE)])
    assert told(system.reply(event("b"))) == [("a", "done-a")]


def test_an_event_does_not_notify_of_what_another_event_notifies_of():
    left = done("a", notify=(EVERYONE,), notify_at=NOW, triggered_by="source@ac")
    system = System(CHAIN, "ac", results=[left])
    assert told(system.reply(event("b"))) == []


def test_clearing_a_damaged_record_costs_its_file_only():
    system = System(CHAIN, "a", results=[queued("a", EVERYONE)])
    system.change(lambda found: evolve(found, uri=URI))
    other = evolve(system.record(), uri=OTHER)
    system.ledger.change([Change(uri=OTHER, transition=lambda _: (other, None))])
    system.add(request("a"), request("a", uri=OTHER))
    clears = [reply.clear for reply in system.drain()]
    system.ledger._snapshots[URI] = Snapshot(record=None, revision="9", damage="it is damaged")
    clear_all(clears, ledger=system.ledger)
    assert system.entry("a", OTHER).notify == ()


def test_who_is_to_be_told_is_told_once_even_if_the_event_says_so_too():
    system = System(CHAIN, "a")
    system.add(event("source"), event("source"))
    replies = system.drain()
    assert [r.action for r in replies] == [Action.DONE, Action.FORWARDED]
    system = System(CHAIN, "a")

    def answer(task: Task) -> tuple[Result, ...]:
        left = evolve(system.entry("a"), notify=(EVERYONE,), notify_at=NOW)
        made = {system.graph.fingerprints["a"]: left}
        system.change(lambda found: evolve(found, results={**found.results, **made}))
        return complete_jobs(task)

    system.pool.answer = answer
    reply = system.reply(event("source"))
    assert told(reply) == [("a", "done-a")]
    assert reply.clear is not None


# --- topics, dead letters --------------------------------------------------------------------


def test_what_has_finished_is_published_once_and_requests_go_to_each_inbox():
    event_reply = System(FORK, "a").reply(event("source", request="r1"))
    assert [one.topic for one in event_reply.envelopes] == ["done-a"]
    system = System(FORK, "a", results=[queued("b", NOBODY), queued("c", NOBODY)])
    reply = system.reply(request("c", request="r1"))
    assert [one.topic for one in reply.envelopes] == ["inbox-b"]
    for one in (*event_reply.envelopes, *reply.envelopes):
        assert decode_message(one.data).request == "r1"


def test_bytes_that_are_no_message_are_dead():
    system = System(CHAIN, "a")
    system.engine.add_messages([ReceivedMessage(pipeline="a", data=b"\xff{", handle="h")])
    (reply,) = system.drain()
    assert (reply.action, reply.message) == (Action.DEAD_LETTERED, None)
    assert reply.received.handle == "h"
    dead = find_dead_letter(reply)
    assert (dead.stage, dead.pipeline, dead.job) == (Stage.DECODE, "a", None)
    assert (dead.kind, dead.data) == (Kind.UNREADABLE_MESSAGE, b"\xff{")


def test_a_message_of_another_namespace_is_dead():
    system = System(CHAIN, "a")
    message = event("source", namespace="platform")
    reply = system.reply(message)
    dead = find_dead_letter(reply)
    assert (dead.stage, dead.pipeline, dead.uri, dead.order) == (Stage.ROUTE, "a", URI, 5)
    assert "'platform'" in dead.error
    assert dead.data == encode_message(message)
    assert system.record().results == {}


def test_a_message_of_a_file_whose_record_is_damaged_is_dead():
    system = System(CHAIN, "a")
    system.ledger._snapshots[URI] = Snapshot(record=None, revision="9", damage="it is damaged")
    system.add(event("source"), event("source", OTHER))
    replies = {r.action: r for r in system.drain()}
    assert set(replies) == {Action.DEAD_LETTERED, Action.DONE}
    dead = find_dead_letter(replies[Action.DEAD_LETTERED])
    assert (dead.stage, dead.kind, dead.uri) == (Stage.RUN, Kind.DAMAGED_RECORD, URI)


def test_a_dead_letter_does_not_keep_others_waiting():
    system = System(CHAIN, "a")
    system.engine.add_messages([ReceivedMessage(pipeline="a", data=b"x")])
    system.add(event("source"))
    actions = {reply.action for reply in system.drain()}
    assert actions == {Action.DEAD_LETTERED, Action.DONE}


def test_what_has_ended_does_not_wait_for_what_runs():
    class TimedPool(RecordingPool):
        def collect(self, timeout_s: float) -> list[Report]:
            timeouts.append(timeout_s)
            return []

    timeouts: list[float] = []
    system = System(CHAIN, "a", pool=TimedPool())
    system.add(event("source"))
    assert system.engine.step(5.0) == []
    system.engine.add_messages([ReceivedMessage(pipeline="a", data=b"x")])
    assert len(system.engine.step(5.0)) == 1
    assert timeouts == [5.0, 0.0]


# --- a ledger that is away -------------------------------------------------------------------


@pytest.mark.parametrize("done_first", [0, 1, 2])
def test_messages_stay_when_the_ledger_is_away_before_the_claim(done_first):
    system = System(CHAIN, "a")
    system.add(event("source"), event("source", OTHER))
    system.ledger.away, system.ledger.done_first = True, done_first
    for _ in range(3):
        with pytest.raises(Unavailable):
            system.engine.step()
    assert system.engine.pending == 2
    system.ledger.away = False
    replies = system.drain()
    assert sorted(r.received.handle for r in replies) == [0, 1]
    assert {r.action for r in replies} == {Action.DONE}
    assert len(system.pool.tasks) == 2


@pytest.mark.parametrize("done_first", [0, 1, 2])
def test_results_stay_when_the_ledger_is_away_before_they_are_settled(done_first):
    system = System(CHAIN, "a")

    def goes_away(task: Task) -> tuple[Result, ...]:
        system.ledger.away, system.ledger.done_first = True, done_first
        return complete_jobs(task)

    system.pool.answer = goes_away
    system.add(event("source"), event("source", OTHER))
    for _ in range(2):
        with pytest.raises(Unavailable):
            system.engine.step()
    assert system.engine.pending == 2
    system.ledger.away = False
    replies = system.drain()
    assert sorted(r.received.handle for r in replies) == [0, 1]
    assert system.entry("a").state is system.entry("a", OTHER).state is State.DONE
    assert {r.action for r in replies} == {Action.DONE}
    assert [told(reply) for reply in replies] == [[("a", "done-a")]] * 2
    assert len(system.pool.tasks) == 2


def test_what_comes_next_runs_once_even_if_the_ledger_went_away_after_claiming_it():
    system = System(CHAIN, "ab", results=[queued("b", NOBODY)])

    def goes_away(task: Task) -> tuple[Result, ...]:
        if task.run == ("a",):
            system.ledger.away, system.ledger.done_first = True, 1
        return complete_jobs(task)

    system.pool.answer = goes_away
    system.add(request("a"))
    with pytest.raises(Unavailable):
        system.engine.step()
    system.ledger.away = False
    (reply,) = system.drain()
    assert [task.run for task in system.pool.tasks] == [("a",), ("b",)]
    assert (reply.action, system.entry("b").attempts) == (Action.DONE, 1)


def test_a_failure_is_dead_lettered_even_if_the_ledger_went_away_after_recording_it():
    system = System(CHAIN, "a")

    def goes_away(task: Task) -> tuple[Result, ...]:
        system.ledger.away, system.ledger.done_first = True, 1
        return failing(Kind.TIMEOUT)(task)

    system.pool.answer = goes_away
    system.add(event("source"))
    with pytest.raises(Unavailable):
        system.engine.step()
    system.ledger.away = False
    (reply,) = system.drain()
    assert reply.action is Action.DONE
    assert find_dead_letter(reply).kind == Kind.TIMEOUT


def test_replies_that_were_ready_are_not_lost_with_what_fails_after_them():
    system = System(CHAIN, "a")
    system.engine.add_messages([ReceivedMessage(pipeline="a", data=b"x", handle="dead")])
    system.add(event("source"))
    system.ledger.away = True
    with pytest.raises(Unavailable):
        system.engine.step()
    system.ledger.away = False
    assert {r.received.handle for r in system.drain()} == {"dead", 0}


# --- leases and room -------------------------------------------------------------------------


class SlowPool(RecordingPool):
    """Nothing is finished until it may be."""

    ready = False

    def collect(self, timeout_s: float) -> Any:
        return super().collect(timeout_s) if self.ready else []


def build_slow_system() -> tuple[System, SlowPool]:
    pool = SlowPool()
    system = System(CHAIN, "a", pool=pool)
    system.add(event("source"), event("source", OTHER))
    system.engine.step()
    return system, pool


def expires_s(system: System, uri: str = URI) -> float:
    lease = system.entry("a", uri).lease
    assert lease is not None
    return (lease.expires_at - NOW).total_seconds()


def test_leases_are_renewed_while_jobs_run_and_not_more_often_than_needed():
    system, _ = build_slow_system()
    assert expires_s(system) == 60
    system.clock.advance(19)
    system.engine.step()
    assert expires_s(system) == 60
    system.clock.advance(1)
    system.engine.step()
    assert expires_s(system) == expires_s(system, OTHER) == 80
    system.clock.advance(50)
    system.engine.step()
    assert expires_s(system) == 130


def test_a_lease_that_another_took_is_left_to_it():
    system, pool = build_slow_system()
    taken = held("a", owner="other", seconds=500)
    system.change(lambda found: evolve(found, results={CHAIN.fingerprints["a"]: taken}))
    system.clock.advance(30)
    system.engine.step()
    assert system.entry("a") == taken
    pool.ready = True
    actions = {r.message.uri: r.action for r in system.drain() if r.message is not None}
    assert actions == {URI: Action.LOST, OTHER: Action.DONE}


def test_abandoning_returns_the_owners_and_ignores_late_results():
    system, pool = build_slow_system()
    system.add(request("b"))
    system.engine.step()
    assert sorted(system.engine.abandon()) == ["me/1", "me/2", "me/3"]
    assert system.engine.pending == 0
    pool.ready = True
    system.dead = {"me/1", "me/2"}
    system.add(event("source", OTHER))
    (reply,) = system.drain()
    assert (reply.action, reply.received.handle) == (Action.DONE, 0)
    assert system.entry("a").state is State.RUNNING


def add_files(system: System, count: int) -> list[str]:
    uris = [f"gs://b/{i}.wav" for i in range(count)]
    for uri in uris:
        arrived = MediaFile(uri=uri, version="5", order=5)
        system.ledger.change([Change(uri=uri, transition=lambda r, m=arrived: arrive(r, m, NOW))])
    return uris


def test_no_more_is_claimed_than_there_is_work_for_a_moment():
    pool = SlowPool(processes=2)
    system = System(CHAIN, "a", pool=pool)
    assert system.engine.room == 4
    system.add(*(event("source", uri) for uri in add_files(system, 7)))
    system.engine.step()
    engine = system.engine
    assert (engine.running, engine.pending, engine.room) == (4, 7, 0)
    pool.ready = True
    assert len(system.drain()) == 7


def test_two_messages_for_one_file_are_answered_one_after_the_other():
    system = System(CHAIN, "ab")
    system.add(event("source"), request("b"))
    replies = system.drain()
    assert [r.received.handle for r in replies] == [0, 1]
    assert [r.action for r in replies] == [Action.DONE, Action.DROPPED]
    assert len(system.pool.tasks) == 1


def test_messages_that_wait_for_their_file_leave_room_for_others():
    """Each parent of a join sends one, and their job may run for minutes."""
    pool = SlowPool(processes=2)
    system = System(CHAIN, "a", pool=pool)
    system.add(*[event("source")] * 4)
    system.engine.step()
    assert (system.engine.running, system.engine.pending, system.engine.room) == (1, 4, 3)
    pool.ready = True
    assert [r.received.handle for r in system.drain()] == [0, 1, 2, 3]


def test_so_many_messages_wait_for_a_file_and_no_more():
    system = System(CHAIN, "a", pool=SlowPool(processes=2))
    system.engine.max_ahead = 8
    system.add(*[event("source")] * 7)
    system.engine.step()
    assert system.engine.room == 2
    system.add(*[event("source")] * 2)
    system.engine.step()
    assert (system.engine.pending, system.engine.room) == (9, 0)


def test_messages_whose_file_was_read_in_vain_come_in_their_order_again():
    system = System(CHAIN, "a")
    system.add(event("source"), event("source"), event("source", OTHER))
    system.ledger.away = True
    with pytest.raises(Unavailable):
        system.engine.step()
    assert system.engine.pending == 3
    system.ledger.away = False
    handles = [r.received.handle for r in system.drain()]
    assert sorted(handles) == [0, 1, 2]
    assert handles.index(0) < handles.index(1)


# --- what is logged --------------------------------------------------------------------------


def test_a_reply_says_what_is_logged_of_each_job():
    system = System(CHAIN, "ab", answer=failing(Kind.TIMEOUT))
    error = Failure(kind=Kind.TIMEOUT, type="E", message="it went wrong")
    system.pool.answer = lambda task: (
        *(r for r in complete_jobs(task) if r.job == "a"),
        Result(job="b", state=State.FAILED, error=error, seconds=2.0, cpu_seconds=1.0),
    )
    first, second = system.reply(event("source", request="r1")).list_log_lines()
    assert first[0] is Action.DONE
    assert first[1]["job"] == "a"
    assert second[0] is Action.FAILED
    assert second[1] == {
        "pipeline": "ab",
        "file": URI,
        "version": "5",
        "request": "r1",
        "message_id": "0",
        "job": "b",
        "kind": Kind.TIMEOUT,
        "error": "it went wrong",
        "artifacts": [],
        "seconds": 2.0,
        "cpu_seconds": 1.0,
    }


def test_a_message_for_which_nothing_ran_is_logged_with_the_reason():
    system = System(CHAIN, "a", results=[held("a")])
    ((action, fields),) = system.reply(event("source")).list_log_lines()
    assert action is Action.WAITING
    assert (fields["trigger"], fields["reason"]) == ("source", "a is held by other")
    system.engine.add_messages([ReceivedMessage(pipeline="a", data=b"x", message_id="7")])
    (reply,) = system.drain()
    ((action, fields),) = reply.list_log_lines()
    assert (action, fields["pipeline"]) == (Action.DEAD_LETTERED, "a")
    assert (fields["file"], fields["message_id"]) == (None, "7")
