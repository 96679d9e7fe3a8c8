"""How Dataflow's workers process a bundle, step by step, and one that fails."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from apache_beam.utils.timestamp import Timestamp

from segue.errors import Unavailable
from segue.execution.reply import ReceivedMessage
from segue.ingest.events import Arrivals
from segue.model.graph import read_graph
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message, encode_message
from segue.model.record import Lease, State
from segue_pipelines.streaming import dataflow
from segue_pipelines.streaming.dataflow import (
    CLEAR_PENDING,
    MAX_LOST,
    ClearPendingTargets,
    LostOwners,
    ProcessResources,
    RespondInBundle,
)
from segue_pipelines.streaming.streaming_run import ProcessCache, StreamingRun
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.recording_pool import RecordingPool
from segue_support.simulator.store import MemoryStore

GRAPH = """
jobs:
  a: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  b: {run: "segue_support.jobs:after", needs: {value: a}, writes: application/json}
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
            graph=self.graph, jobs=("a",), ledger="firestore://x", artifacts="gs://x", queue="none"
        )

    def open(self, _run: StreamingRun, _stack: contextlib.ExitStack) -> ProcessResources:
        return ProcessResources(self.ledger, MemoryStore("gs://x"), self.pool)

    def arrive(self, count: int) -> list[ReceivedMessage]:
        queue = MemoryQueue()
        files = [MediaFile(uri=f"gs://x/{i}.wav", generation=1) for i in range(count)]
        Arrivals(graph=self.graph, ledger=self.ledger, queue=queue).record(files)
        return [ReceivedMessage(job="a", data=x.data) for x in queue.queued.values()]

    def worker(self) -> RespondInBundle:
        step = RespondInBundle(self.run)
        step.setup()
        return step

    def states(self) -> set[State]:
        return {r.jobs["a"].state for r in self.ledger.records.values()}


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = World(tmp_path)
    monkeypatch.setattr(dataflow, "process_resources", ProcessCache(world.open))
    return world


def begin(step: RespondInBundle, received: list[ReceivedMessage]) -> None:
    step.start_bundle()
    for one in received:
        step.process(one, AT)


def test_a_bundle_is_finished_and_published_by_topic(world):
    step = world.worker()
    begin(step, world.arrive(3))
    outputs = list(step.finish_bundle())
    notified = [o for o in outputs if o.tag == "b-live"]
    assert len(notified) == 3
    assert all(o.value.timestamp == AT for o in outputs)
    assert {o.value.value.topic for o in notified} == {"b-live"}
    assert world.states() == {State.DONE}


def test_pending_targets_are_cleared_by_a_separate_step(world):
    (received,) = world.arrive(1)
    step, other = world.worker(), world.worker()

    def request_b() -> None:
        asked = Message(uri="gs://x/0.wav", generation=1, job="a", targets=("b",), lane="requests")
        begin(other, [ReceivedMessage(job="a", data=encode_message(asked))])
        assert list(other.finish_bundle()) == []  # it waits, and adds its pending targets

    world.pool.clients[0].meanwhile = request_b
    begin(step, [received])
    outputs = list(step.finish_bundle())
    targets = [decode_message(o.value.value.data).targets for o in outputs if o.tag == "b-live"]
    assert ("b",) in targets
    cleared = [o.value.value for o in outputs if o.tag == CLEAR_PENDING]
    (record,) = world.ledger.records.values()
    assert record.jobs["a"].pending_targets
    clear = ClearPendingTargets(world.run)
    clear.setup()
    clear.start_bundle()
    for one in cleared:
        clear.process(one)
    clear.finish_bundle()
    (record,) = world.ledger.records.values()
    assert record.jobs["a"].pending_targets == ()


def test_the_next_bundle_takes_over_the_messages_of_a_failed_one_at_once(world):
    received = world.arrive(2)
    world.ledger.left = 1  # it can claim, and not settle
    step = world.worker()
    begin(step, received)
    with pytest.raises(Unavailable):
        list(step.finish_bundle())
    assert all(r.jobs["a"].lease for r in world.ledger.records.values())
    world.ledger.left = 100
    other = world.worker()
    begin(other, received)
    assert len([o for o in other.finish_bundle() if o.tag == "b-live"]) == 2
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
    begin(step, [ReceivedMessage(job="a", data=b"poison")])
    (output,) = step.finish_bundle()
    assert output.tag == "a-dead"


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
