"""The station of a local streaming pipeline: whatever is away for a while, nothing is lost, nothing
is acknowledged too early, and nothing is computed twice.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime

import pytest

from segue.errors import ConfigurationError, Contended, DiskFull, Kind, Unavailable
from segue.execution.responder import Responder
from segue.ingest.arrivals import Arrivals
from segue.model.graph import load
from segue.model.ledger import Result
from segue.model.media_file import MediaFile
from segue.model.queue import Letter, topics_of
from segue.model.record import Failure, State
from segue.worker.task import Report
from segue_pipelines.streaming.stream_worker import Station
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.recording_pool import RecordingCrew, all_done

GRAPH = """
jobs:
  a: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  b: {run: "segue_support.jobs:after", needs: {value: a}, writes: application/json}
"""


class Faulty:
    """Stands before a port; the calls that are named fail so often."""

    def __init__(self, port) -> None:
        self._port = port
        self.faults: dict[str, list[Exception]] = {}

    def __getattr__(self, name):
        def call(*args, **kwargs):
            if self.faults.get(name):
                raise self.faults[name].pop(0)
            return getattr(self._port, name)(*args, **kwargs)

        return call


class SlowCrew(RecordingCrew):
    """Answers once it is told to."""

    is_ready = False

    def collect(self, timeout_s: float) -> list[Report]:
        return super().collect(timeout_s) if self.is_ready else []


class World:
    """A station, with all that it works with."""

    def __init__(self, folder, crew=None, **options) -> None:
        (folder / "jobs.yaml").write_text(GRAPH)
        self.graph = load(str(folder / "jobs.yaml"))
        self.memory, self.kept = MemoryQueue(), MemoryLedger()
        self.queue, self.ledger = Faulty(self.memory), Faulty(self.kept)
        self.crew = crew or RecordingCrew()
        self.sent = []
        self.station = Station(
            queue=self.queue,
            ledger=self.ledger,
            responder=lambda: Responder(
                graph=self.graph, jobs=("a", "b"), ledger=self.ledger, crew=self.crew
            ),
            topics=topics_of(self.graph),
            **options,
        )

    def arrive(self, count: int) -> None:
        files = [MediaFile(uri=f"gs://x/{i}.wav", generation=1) for i in range(count)]
        Arrivals(
            graph=self.graph,
            ledger=self.kept,
            queue=self.memory,
            clock=lambda: datetime.now(UTC),
        ).take(files)

    def bundle(self) -> None:
        """What Beam does with one bundle."""
        for tick in self.station.ticks():
            self.sent += self.station.publish(self.station.respond(tick))
        self.station.acknowledge()

    def work_off(self) -> None:
        for _ in range(200):
            if not (self.memory.queued or self.memory.hidden):
                return
            self.bundle()
        raise AssertionError("it does not come to an end")

    @property
    def done(self) -> int:
        entries = [e for r in self.kept.records.values() for e in r.jobs.values()]
        return sum(e.state is State.DONE and not e.wanted and not e.lease for e in entries)

    @property
    def runs(self) -> Counter:
        return Counter((t.media.uri, t.run) for t in self.crew.tasks)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_full_queue_is_worked_off(world):
    world.arrive(40)
    world.work_off()
    assert world.done == 80
    assert set(world.runs.values()) == {1}


def test_no_more_is_pulled_than_there_is_room_for(tmp_path):
    world = World(tmp_path, SlowCrew())
    world.arrive(40)
    world.bundle()
    assert len(world.memory.hidden) == 2 * world.crew.processes
    world.crew.is_ready = True
    world.work_off()
    assert world.done == 80


@pytest.mark.parametrize(
    ("port", "call"),
    [
        ("ledger", "read"),
        ("ledger", "change"),
        ("queue", "pull"),
        ("queue", "publish"),
        ("queue", "acknowledge"),
    ],
)
@pytest.mark.parametrize("error", [Unavailable("away"), Contended("busy"), DiskFull("full")])
def test_what_a_port_refuses_for_a_while_is_done_later_and_once(world, port, call, error):
    world.arrive(10)
    getattr(world, port).faults[call] = [error] * 3
    world.work_off()
    assert world.done == 20
    assert set(world.runs.values()) == {1}


@pytest.mark.parametrize(
    ("port", "call"),
    [
        ("ledger", "read"),
        ("queue", "pull"),
        ("queue", "publish"),
        ("queue", "acknowledge"),
    ],
)
def test_an_outage_is_told_once_and_waited_for_longer_and_longer(world, port, call, monkeypatch):
    told: list[logging.LogRecord] = []
    keeper = logging.Handler()
    keeper.emit = told.append
    monkeypatch.setattr(logging.getLogger("segue"), "handlers", [keeper])
    world.arrive(10)
    faults = getattr(world, port).faults[call] = [Unavailable("away")] * 100
    for _ in range(4):
        world.bundle()
    assert 100 - len(faults) < 8  # a second or two, in pauses that double
    lines = [r.segue for r in told if r.segue["action"] == "unavailable"]
    assert len(lines) == 1


def test_nothing_is_acknowledged_before_the_others_are_told(world):
    world.arrive(1)
    world.queue.faults["publish"] = [Unavailable("away")] * 2
    world.bundle()
    assert world.crew.tasks
    assert len(world.memory.hidden) == 1
    assert world.sent == []
    world.work_off()
    assert world.done == 2


def test_a_job_that_finds_no_room_gives_its_message_back_until_there_is_some(tmp_path):
    full = [3]

    def answer(task):
        if full[0] and task.media.uri.endswith("/5.wav"):
            full[0] -= 1
            error = Failure(kind=Kind.DISK_FULL, type="DiskFull", message="free some room")
            return (Result(job=task.run[0], state=State.QUEUED, error=error),)
        return all_done(task)

    world = World(tmp_path, RecordingCrew(answer))
    world.arrive(10)
    world.work_off()
    assert full == [0]
    assert world.done == 20
    again = {uri for (uri, _), n in world.runs.items() if n > 1}
    assert again == {"gs://x/5.wav"}


def test_a_wrong_setup_ends_the_pipeline(tmp_path):
    class Hopeless(RecordingCrew):
        def collect(self, timeout_s: float) -> list[Report]:
            raise ConfigurationError("the job 'a' cannot be started")

    world = World(tmp_path, Hopeless())
    world.arrive(1)
    with pytest.raises(ConfigurationError, match="cannot be started"):
        world.bundle()
    world.station.close()
    assert len(world.memory.queued) == 1  # somebody else may have it at once


def test_a_wrong_setup_that_shows_when_acknowledging_ends_it_with_the_next_bundle(world):
    world.arrive(1)
    world.queue.faults["acknowledge"] = [ConfigurationError("no such subscription")]
    world.bundle()
    with pytest.raises(ConfigurationError, match="no such subscription"):
        world.bundle()


def test_stopped_it_finishes_what_it_has_and_pulls_no_more(tmp_path):
    world = World(tmp_path, SlowCrew())
    world.arrive(40)
    world.bundle()
    world.station.stop()
    world.bundle()
    assert not world.station.is_over
    world.crew.is_ready = True
    world.bundle()
    assert world.station.is_over
    assert len(world.crew.tasks) == 2 * world.crew.processes
    assert world.memory.hidden == {}


def test_after_the_grace_it_gives_back_what_still_runs(tmp_path):
    world = World(tmp_path, SlowCrew(), grace_s=0.0)
    world.arrive(2)
    world.bundle()
    assert len(world.memory.hidden) == 2
    world.station.stop()
    assert world.station.is_over
    world.station.close()
    assert len(world.memory.queued) == 2


def test_it_is_over_when_nothing_came_for_long_enough_and_not_before_it_looked(tmp_path):
    world = World(tmp_path, until_idle_s=0.0)
    assert not world.station.is_over
    world.arrive(1)
    while not world.station.is_over:
        world.bundle()
    assert world.done == 2


def test_a_station_whose_queue_is_away_is_not_idle(tmp_path):
    world = World(tmp_path, until_idle_s=0.0)
    world.queue.faults["pull"] = [Unavailable("away")] * 50
    world.bundle()
    assert not world.station.is_over


def test_bytes_that_are_no_message_are_buried_and_acknowledged(world):
    world.memory.publish([Letter(topic="a-live", data=b"poison")])
    world.bundle()
    assert [x.topic for x in world.memory.queued.values()] == ["a-dead"]
