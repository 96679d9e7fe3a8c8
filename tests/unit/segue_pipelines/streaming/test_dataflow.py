"""How Dataflow's workers process a bundle, step by step, and one that fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from apache_beam.utils.timestamp import Timestamp

from segue.errors import Unavailable
from segue.execution.streaming_run import SharedResources, StreamingRun
from segue.execution.work import ReceivedMessage
from segue.ingest.events import Arrivals
from segue.model.graph import read_graph
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message, encode_message
from segue.model.record import EVERYONE, Entry, Lease, State
from segue_pipelines.streaming import dataflow
from segue_pipelines.streaming.dataflow import (
    CLEAR,
    MAX_LOST,
    ClearNotified,
    LostOwners,
    RespondInBundle,
)
from segue_pipelines.streaming.process_cache import ProcessCache
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.recording_pool import RecordingPool
from segue_support.simulator.store import MemoryStore

GRAPH = """
jobs:
  a: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  b: {run: "segue_support.jobs:after", needs: {value: a}, writes: application/json}
  beside: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""
AT = Timestamp(1000)


class AwayLedger(MemoryLedger):
    """A ledger that becomes unavailable after so many changes."""

    left = 1_000_000

    def change(self, changes):
        if self.left == 0:
            raise Unavailable("the ledger is away")
        self.left -= 1
        return super().change(changes)


class SlowPool(RecordingPool):
    """Returns one report at a time; something else may happen before the first."""

    meanwhile = None

    def collect(self, timeout_s: float):
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        later, self._waiting = self._waiting[1:], self._waiting[:1]
        reports = super().collect(timeout_s)
        self._waiting = later
        return reports

    def abandon(self) -> None:
        self._waiting = []


class FakeSharedPool:
    """A shared pool without processes."""

    def __init__(self) -> None:
        self.clients = []

    def build_client(self):
        self.clients.append(SlowPool())
        return self.clients[-1]

    @property
    def tasks(self):
        return [task for client in self.clients for task in client.tasks]


class World:
    def __init__(self, folder) -> None:
        (folder / "jobs.yaml").write_text(GRAPH)
        self.graph = read_graph(str(folder / "jobs.yaml"))
        self.ledger, self.pool = AwayLedger(), FakeSharedPool()
        self.run = StreamingRun(
            graph=self.graph,
            pipelines=("a",),
            ledger="firestore://x",
            artifacts="gs://x",
            queue="none",
        )

    def open(self, run: StreamingRun, _stack: object) -> tuple[SharedResources, LostOwners]:
        resources = SharedResources(
            run=run,
            ledger=self.ledger,
            artifacts=MemoryStore("gs://x"),
            foreign=None,
            pool=self.pool,
        )
        return resources, LostOwners()

    def arrive(self, count: int) -> list[ReceivedMessage]:
        queue = MemoryQueue()
        files = [MediaFile(uri=f"gs://x/{i}.wav", version="1", order=1) for i in range(count)]
        Arrivals(graph=self.graph, ledger=self.ledger, queue=queue).record(files)
        events = [x for x in queue.queued.values() if x.topic == "source"]
        return [ReceivedMessage(pipeline="a", data=x.data) for x in events]

    def worker(self) -> RespondInBundle:
        step = RespondInBundle(self.run)
        step.setup()
        return step

    def states(self) -> set[State]:
        return {entry.state for entry in self.entries()}

    def entries(self) -> list[Entry]:
        """The entries of a's results."""
        own = self.graph.fingerprints["a"]
        return [record.results[own] for record in self.ledger.records.values()]


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = World(tmp_path)
    monkeypatch.setattr(dataflow, "processes", ProcessCache(world.open))
    return world


def begin(step: RespondInBundle, received: list[ReceivedMessage]) -> None:
    step.start_bundle()
    for one in received:
        step.process(one, AT)


def test_a_bundle_is_finished_and_published_by_topic(world):
    step = world.worker()
    begin(step, world.arrive(3))
    outputs = list(step.finish_bundle())
    notified = [o for o in outputs if o.tag == "done-a"]
    assert len(notified) == 3
    assert all(o.value.timestamp == AT for o in outputs)
    assert {o.value.value.topic for o in notified} == {"done-a"}
    assert world.states() == {State.DONE}


def test_whom_to_notify_is_cleared_by_a_separate_step(world):
    (event,) = world.arrive(1)
    step, other = world.worker(), world.worker()
    asked = Message(uri="gs://x/0.wav", version="1", order=1, targets=("a",))

    def deliver_event() -> None:
        begin(other, [event])
        assert list(other.finish_bundle()) == []  # another bundle computes it: that one notifies

    world.pool.clients[0].meanwhile = deliver_event
    begin(step, [ReceivedMessage(pipeline="a", data=encode_message(asked))])
    outputs = list(step.finish_bundle())
    (notified,) = [decode_message(o.value.value.data) for o in outputs if o.tag == "done-a"]
    assert notified.trigger == "a"
    (cleared,) = [o.value.value for o in outputs if o.tag == CLEAR]
    assert [entry.notify for entry in world.entries()] == [(EVERYONE,)]
    clear = ClearNotified(world.run)
    clear.setup()
    clear.start_bundle()
    clear.process(cleared)
    clear.finish_bundle()
    assert [entry.notify for entry in world.entries()] == [()]


def test_nothing_is_published_to_a_pipeline_that_this_one_does_not_lead_to(world):
    world.arrive(1)
    asked = Message(uri="gs://x/0.wav", version="1", order=1, targets=("a", "beside", "b"))
    step = world.worker()
    begin(step, [ReceivedMessage(pipeline="a", data=encode_message(asked))])
    assert {output.tag for output in step.finish_bundle()} == {"inbox-b"}


def test_the_next_bundle_takes_over_the_messages_of_a_failed_one_at_once(world):
    received = world.arrive(2)
    world.ledger.left = 1  # it can claim, and not settle
    step = world.worker()
    begin(step, received)
    with pytest.raises(Unavailable):
        list(step.finish_bundle())
    assert all(entry.lease for entry in world.entries())
    world.ledger.left = 100
    other = world.worker()
    begin(other, received)
    assert len([o for o in other.finish_bundle() if o.tag == "done-a"]) == 2
    assert world.states() == {State.DONE}


@pytest.mark.parametrize("end", ["start_bundle", "teardown"])
def test_a_bundle_that_fails_in_a_later_step_is_given_up_too(world, end):
    received = world.arrive(2)
    step = world.worker()
    begin(step, received)
    outputs = step.finish_bundle()
    next(outputs)  # and what comes next fails
    assert world.states() == {State.DONE, State.RUNNING}
    getattr(step, end)()
    other = world.worker()
    begin(other, received)
    list(other.finish_bundle())
    assert world.states() == {State.DONE}


def test_a_malformed_message_goes_to_the_dead_letters(world):
    step = world.worker()
    begin(step, [ReceivedMessage(pipeline="a", data=b"poison")])
    (output,) = step.finish_bundle()
    assert output.tag == "dead"


def lease(owner: str) -> Lease:
    return Lease(owner=owner, expires_at=datetime.now(UTC) + timedelta(minutes=5))


def test_owners_that_were_given_up_are_lost_and_the_oldest_are_forgotten():
    lost = LostOwners()
    assert not lost(lease("elsewhere/1/1/one"))
    lost.add(["elsewhere/1/1/one"])
    assert lost(lease("elsewhere/1/1/one"))
    assert not lost(lease("elsewhere/1/1/other"))
    lost.add(f"elsewhere/1/1/{i}" for i in range(MAX_LOST))
    assert not lost(lease("elsewhere/1/1/one"))
    assert lost(lease(f"elsewhere/1/1/{MAX_LOST - 1}"))
