"""What Dataflow's workers do with a bundle, step by step: and with one that fails."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from apache_beam.utils.timestamp import Timestamp

from segue.errors import Unavailable
from segue.execution.responder import Received
from segue.ingest.arrivals import Arrivals
from segue.model.graph import load
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode, encode
from segue.model.record import Lease, State
from segue_pipelines.streaming import bundles
from segue_pipelines.streaming.bundles import (
    MAX_LOST,
    START_AT,
    STRIKES,
    LostOwners,
    RespondInBundle,
    StrikeOut,
    Workshop,
)
from segue_pipelines.streaming.pipeline import Streaming
from segue_pipelines.streaming.process_wide import ProcessWide
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.recording_pool import RecordingCrew

GRAPH = """
jobs:
  a: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  b: {run: "segue_support.jobs:after", needs: {value: a}, writes: application/json}
"""
AT = Timestamp(1000)


class AwayLedger(MemoryLedger):
    """A ledger that goes away after so many changes."""

    left = 1_000_000

    def change(self, changes):
        if self.left == 0:
            raise Unavailable("the ledger is away")
        self.left -= 1
        return super().change(changes)


class Crew(RecordingCrew):
    """Answers once it is let."""

    is_ready = True

    def collect(self, timeout_s: float):
        return super().collect(timeout_s) if self.is_ready else []


class Desks:
    """A shared pool without processes."""

    def __init__(self) -> None:
        self.crews = []

    def desk(self):
        self.crews.append(Crew())
        return self.crews[-1]

    @property
    def tasks(self):
        return [task for crew in self.crews for task in crew.tasks]


class World:
    def __init__(self, folder) -> None:
        (folder / "jobs.yaml").write_text(GRAPH)
        self.graph = load(str(folder / "jobs.yaml"))
        self.ledger, self.desks = AwayLedger(), Desks()
        self.run = Streaming(
            graph=self.graph, jobs=("a",), ledger="firestore://x", artifacts="gs://x", queue="none"
        )

    def open(self, _run: Streaming, _stack: contextlib.ExitStack) -> Workshop:
        return Workshop(self.ledger, self.desks)

    def arrive(self, count: int) -> list[Received]:
        queue = MemoryQueue()
        files = [MediaFile(uri=f"gs://x/{i}.wav", generation=1) for i in range(count)]
        Arrivals(graph=self.graph, ledger=self.ledger, queue=queue).take(files)
        return [Received(job="a", data=x.data) for x in queue.queued.values()]

    def worker(self) -> RespondInBundle:
        step = RespondInBundle(self.run)
        step.setup()
        return step

    def states(self) -> set[State]:
        return {r.jobs["a"].state for r in self.ledger.records.values()}


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = World(tmp_path)
    monkeypatch.setattr(bundles, "workshops", ProcessWide(world.open))
    return world


def begin(step: RespondInBundle, received: list[Received]) -> list:
    step.start_bundle()
    return [output for one in received for output in step.process(one, AT)]


def test_a_bundle_is_worked_off_and_told_by_topic(world):
    step = world.worker()
    assert begin(step, world.arrive(3)) == []
    outputs = list(step.finish_bundle())
    told = [o for o in outputs if o.tag == "b-live"]
    assert len(told) == 3
    assert all(o.value.timestamp == AT for o in outputs)
    assert {o.value.value.topic for o in told} == {"b-live"}
    assert world.states() == {State.DONE}


def test_a_large_bundle_is_begun_before_it_is_complete(world):
    outputs = begin(world.worker(), world.arrive(40))
    assert outputs
    assert world.desks.tasks


def test_what_was_owed_is_struck_out_by_a_step_of_its_own(world):
    (received,) = world.arrive(1)
    step, other = world.worker(), world.worker()
    world.desks.crews[0].is_ready = False
    begin(step, [received] * START_AT)  # which begins with the first
    asked = Message(uri="gs://x/0.wav", generation=1, job="a", targets=("b",), lane="requests")
    begin(other, [Received(job="a", data=encode(asked))])
    assert list(other.finish_bundle()) == []  # it waits, and leaves word of what it wants
    world.desks.crews[0].is_ready = True
    outputs = list(step.finish_bundle())
    targets = [decode(o.value.value.data).targets for o in outputs if o.tag == "b-live"]
    assert ("b",) in targets
    strikes = [o.value.value for o in outputs if o.tag == STRIKES]
    (record,) = world.ledger.records.values()
    assert record.jobs["a"].wanted
    strike_out = StrikeOut(world.run)
    strike_out.setup()
    strike_out.start_bundle()
    for strike in strikes:
        strike_out.process(strike)
    strike_out.finish_bundle()
    (record,) = world.ledger.records.values()
    assert record.jobs["a"].wanted == ()


def test_a_bundle_that_fails_is_worked_on_by_the_next_at_once(world):
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
    received = world.arrive(START_AT)
    step = world.worker()
    world.desks.crews[0].is_ready = False
    begin(step, received)
    assert any(r.jobs for r in world.ledger.records.values())
    getattr(step, end)()
    other = world.worker()
    begin(other, received)
    list(other.finish_bundle())
    assert world.states() == {State.DONE}


def test_a_message_that_is_none_goes_to_the_dead_letters(world):
    step = world.worker()
    begin(step, [Received(job="a", data=b"poison")])
    (output,) = step.finish_bundle()
    assert output.tag == "a-dead"


def lease(owner: str) -> Lease:
    return Lease(owner=owner, expires_at=datetime.now(UTC) + timedelta(minutes=5))


def test_owners_that_were_given_up_are_lost_and_those_of_long_ago_forgotten():
    lost = LostOwners()
    assert not lost(lease("elsewhere/1/1/one"))
    lost.add(["elsewhere/1/1/one"])
    assert lost(lease("elsewhere/1/1/one"))
    assert not lost(lease("elsewhere/1/1/other"))
    lost.add(f"elsewhere/1/1/{i}" for i in range(MAX_LOST))
    assert not lost(lease("elsewhere/1/1/one"))
    assert lost(lease(f"elsewhere/1/1/{MAX_LOST - 1}"))
