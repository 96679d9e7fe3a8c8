"""The stream worker of a local pipeline: whatever is unavailable for a while, nothing is lost,
acknowledged too early, or computed twice.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from segue.backoff import Backoff
from segue.errors import ConfigurationError, Contended, DiskFull, Kind, Unavailable
from segue.execution import stream_worker
from segue.execution.engine import Engine
from segue.execution.stream_worker import BACKOFF, Outage, StreamWorker
from segue.ingest.events import Arrivals
from segue.model.graph import read_graph
from segue.model.media_file import MediaFile
from segue.model.queue import Envelope, list_subscriptions
from segue.model.record import Failure, State
from segue.model.transitions import Result
from segue.worker.protocol import Report
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.recording_pool import RecordingPool, complete_jobs
from segue_support.simulator.store import MemoryStore

pytestmark = pytest.mark.slow

GRAPH = """
jobs:
  a: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  b: {run: "segue_support.jobs:after", needs: {value: a}, writes: application/json}
  elsewhere: {run: "segue_support.jobs:after", needs: {value: b}, writes: application/json}
"""
PIPELINES = ("a", "b")


class Faulty:
    """Wraps a port; the named calls raise the given errors first."""

    def __init__(self, port) -> None:
        self._port = port
        self.faults: dict[str, list[Exception]] = {}

    def __getattr__(self, name):
        def call(*args, **kwargs):
            if self.faults.get(name):
                raise self.faults[name].pop(0)
            return getattr(self._port, name)(*args, **kwargs)

        return call


class SlowPool(RecordingPool):
    """Returns reports only once it is ready."""

    is_ready = False

    def collect(self, timeout_s: float) -> list[Report]:
        return super().collect(timeout_s) if self.is_ready else []


class World:
    """A stream worker with its queue, ledger and pool."""

    def __init__(self, folder, pool=None, **options) -> None:
        (folder / "jobs.yaml").write_text(GRAPH)
        self.graph = read_graph(str(folder / "jobs.yaml"))
        self.memory_queue, self.memory_ledger = MemoryQueue(), MemoryLedger()
        self.memory_queue.subscribe(list_subscriptions(self.graph))
        self.subscriptions = [s.name for s in list_subscriptions(self.graph, PIPELINES)]
        self.queue, self.ledger = Faulty(self.memory_queue), Faulty(self.memory_ledger)
        self.pool = pool or RecordingPool()
        self.sent = []
        self.worker = StreamWorker(
            queue=self.queue,
            ledger=self.ledger,
            engine=Engine(
                graph=self.graph,
                served=frozenset(PIPELINES),
                ledger=self.ledger,
                pool=self.pool,
                artifacts=MemoryStore("gs://o"),
            ),
            subscriptions=self.subscriptions,
            **options,
        )

    def arrive(self, count: int) -> None:
        files = [MediaFile(uri=f"gs://x/{i}.wav", version="1", order=1) for i in range(count)]
        Arrivals(
            graph=self.graph,
            ledger=self.memory_ledger,
            queue=self.memory_queue,
            clock=lambda: datetime.now(UTC),
        ).record(files)

    def bundle(self) -> None:
        """Work for the length of one bundle."""
        self.sent += self.worker.work(0.25)

    def drain(self) -> None:
        for _ in range(200):
            if not (self.queued or self.memory_queue.hidden):
                return
            self.bundle()
        raise AssertionError("it does not come to an end")

    @property
    def queued(self) -> list[str]:
        """The subscriptions of what waits for this worker."""
        found = map(self.memory_queue.find_subscription, self.memory_queue.queued)
        return [name for name in found if name in self.subscriptions]

    @property
    def done(self) -> int:
        entries = [e for r in self.memory_ledger.records.values() for e in r.results.values()]
        return sum(e.state is State.DONE and not e.notify and not e.lease for e in entries)

    @property
    def leased(self) -> int:
        entries = [e for r in self.memory_ledger.records.values() for e in r.results.values()]
        return sum(e.lease is not None for e in entries)

    @property
    def runs(self) -> Counter:
        return Counter((t.media.uri, t.run) for t in self.pool.tasks)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def logged(caplog, monkeypatch):
    """Return a function that lists the logged events."""
    monkeypatch.setattr(logging.getLogger("segue"), "propagate", True)
    caplog.set_level(logging.INFO, logger="segue")
    return lambda: [r.segue for r in caplog.records if hasattr(r, "segue")]


def test_a_full_queue_is_emptied(world):
    world.arrive(40)
    world.drain()
    assert world.done == 80
    assert set(world.runs.values()) == {1}


def test_no_more_is_pulled_than_there_are_free_slots(tmp_path):
    world = World(tmp_path, SlowPool())
    world.arrive(40)
    world.bundle()
    assert len(world.memory_queue.hidden) == 2 * world.pool.processes
    world.pool.is_ready = True
    world.drain()
    assert world.done == 80


@pytest.mark.parametrize(
    ("port", "call"),
    [
        ("ledger", "read"),
        ("ledger", "change"),
        ("ledger", "sync"),
        ("queue", "pull"),
        ("queue", "publish"),
        ("queue", "acknowledge"),
    ],
)
@pytest.mark.parametrize("error", [Unavailable("away"), Contended("busy"), DiskFull("full")])
def test_a_call_that_a_port_refuses_for_a_while_is_made_later_and_once(
    world, port, call, error, monkeypatch
):
    monkeypatch.setattr(stream_worker, "BACKOFF", Backoff(0.01, 0.1))
    world.arrive(10)
    getattr(world, port).faults[call] = [error] * 3
    world.drain()
    assert world.done == 20
    assert set(world.runs.values()) == {1}


@pytest.mark.parametrize(
    ("port", "call"),
    [
        ("ledger", "change"),
        ("queue", "pull"),
        ("queue", "publish"),
        ("queue", "acknowledge"),
    ],
)
def test_an_outage_is_logged_once_and_retried_after_growing_pauses(world, port, call, logged):
    world.arrive(1)
    faults = getattr(world, port).faults[call] = [Unavailable("away")] * 100
    for _ in range(8):
        world.bundle()
    assert 2 < 100 - len(faults) < 9  # two seconds, in pauses that double
    assert [line["error"] for line in logged() if line["action"] == "unavailable"] == ["away"]


def test_nothing_is_acknowledged_before_other_jobs_are_notified(world):
    world.arrive(1)
    world.queue.faults["publish"] = [Unavailable("away")] * 3  # their pauses exceed a bundle
    world.bundle()
    assert world.pool.tasks
    assert len(world.memory_queue.hidden) == 1
    assert world.sent == []
    world.drain()
    assert world.done == 2
    assert [x.topic for x in world.memory_queue.queued.values()] == ["done-b"]


@pytest.mark.parametrize("is_queue_full", [False, True])
def test_a_job_on_a_full_disk_releases_its_message_until_there_is_room(
    tmp_path, monkeypatch, is_queue_full
):
    monkeypatch.setattr(stream_worker, "BACKOFF", Backoff(0.01, 0.1))
    full = [3]

    def answer(task):
        if full[0] and task.media.uri.endswith("/0.wav"):
            full[0] -= 1
            error = Failure(kind=Kind.DISK_FULL, type="DiskFull", message="free some room")
            return tuple(Result(job=job, state=State.QUEUED, error=error) for job in task.run)
        return complete_jobs(task)

    world = World(tmp_path, RecordingPool(answer))
    world.arrive(10)
    if is_queue_full:  # replies of other files wait, too
        world.queue.faults["publish"] = [DiskFull("full")] * 3
    world.drain()
    assert full == [0]
    assert world.done == 20
    again = {uri for (uri, _), n in world.runs.items() if n > 1}
    assert again == {"gs://x/0.wav"}


def test_a_wrong_setup_ends_the_pipeline(tmp_path):
    class FailedSetup(RecordingPool):
        def collect(self, timeout_s: float) -> list[Report]:
            raise ConfigurationError("the job 'a' cannot be started")

    world = World(tmp_path, FailedSetup())
    world.arrive(1)
    with pytest.raises(ConfigurationError, match="cannot be started"):
        world.bundle()
    world.worker.close()
    assert len(world.queued) == 1  # somebody else may have it at once


def test_it_has_started_once_the_queue_has_answered(tmp_path):
    starts = []
    world = World(tmp_path, on_start=lambda: starts.append(1))
    world.queue.faults["pull"] = [Unavailable("away"), ConfigurationError("no such subscription")]
    world.arrive(1)
    with pytest.raises(ConfigurationError, match="no such subscription"):
        world.bundle()
    assert starts == []
    world.drain()
    assert len(starts) == 1
    assert world.done == 2


def test_a_wrong_setup_that_fails_acknowledging_ends_it(world):
    world.arrive(1)
    world.queue.faults["acknowledge"] = [ConfigurationError("no such subscription")]
    with pytest.raises(ConfigurationError, match="no such subscription"):
        world.bundle()


def test_stopped_it_finishes_what_it_has_and_pulls_no_more(tmp_path):
    world = World(tmp_path, SlowPool())
    world.arrive(40)
    world.bundle()
    world.worker.stop()
    world.bundle()
    assert not world.worker.is_over
    world.pool.is_ready = True
    world.bundle()
    assert world.worker.is_over
    assert len(world.pool.tasks) == 2 * world.pool.processes
    assert world.memory_queue.hidden == {}


def test_what_waits_for_a_batch_runs_once_it_is_stopped(tmp_path):
    world = World(tmp_path, SlowPool())
    world.arrive(3)
    world.bundle()
    assert world.pool.flushed == []
    world.worker.stop()
    world.bundle()
    assert set(world.pool.flushed) == {3}


def test_after_the_grace_period_it_releases_what_still_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(stream_worker, "GRACE_S", 0.0)
    world = World(tmp_path, SlowPool())
    leased = []

    def extend(envelopes, seconds):
        leased.append(world.leased)
        return MemoryQueue.extend(world.memory_queue, envelopes, seconds)

    monkeypatch.setattr(world.memory_queue, "extend", extend)
    world.arrive(2)
    world.bundle()
    assert len(world.memory_queue.hidden) == 2
    world.worker.stop()
    assert world.worker.is_over
    assert world.leased == 4
    world.worker.close()
    assert len(world.queued) == 2
    assert leased == [0]  # nobody is to get a message and leave its job to this worker


def test_it_is_over_after_enough_idle_time_and_not_before_its_first_pull(tmp_path):
    world = World(tmp_path, until_idle_s=0.0)
    assert not world.worker.is_over
    world.arrive(1)
    while not world.worker.is_over:
        world.bundle()
    assert world.done == 2


def test_a_worker_whose_queue_is_unavailable_is_not_idle(tmp_path):
    world = World(tmp_path, until_idle_s=0.0)
    world.queue.faults["pull"] = [Unavailable("away")] * 50
    world.bundle()
    assert not world.worker.is_over


def test_a_malformed_message_is_dead_lettered_and_acknowledged(world):
    world.memory_queue.publish([Envelope(topic="inbox-a", data=b"poison")])
    world.bundle()
    assert [x.topic for x in world.memory_queue.queued.values()] == ["dead"]


def test_a_full_disk_is_logged_as_an_error(logged):
    Outage().record_failure(DiskFull("free some room"))
    (line,) = logged()
    assert (line["severity"], line["kind"]) == ("ERROR", "disk_full")


def test_the_pauses_double_up_to_a_limit_and_start_again(monkeypatch):
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    monkeypatch.setattr(stream_worker, "BACKOFF", replace(BACKOFF, jitter=0.0))
    outage = Outage()
    pauses = []
    for _ in range(12):
        outage.record_failure(Unavailable("away"))
        pauses.append(outage.left_s)
    assert pauses[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert pauses[-1] == BACKOFF.longest_s
    now_s += BACKOFF.longest_s
    assert outage.left_s == 0.0
    outage.record_success()
    outage.record_failure(Unavailable("away"))
    assert outage.left_s == pytest.approx(0.1)


def test_a_message_is_on_the_disk_before_anything_comes_of_it(world):
    calls = []
    for name, port in (("queue", world.memory_queue), ("ledger", world.memory_ledger)):
        for method in ("sync", "change", "publish", "acknowledge"):
            if hasattr(port, method):
                _note(calls, name, port, method)
    world.arrive(1)
    calls.clear()
    world.drain()
    first = calls.index("ledger change")
    assert calls[:first] == ["queue sync"]
    for place, call in enumerate(calls):
        if call == "queue acknowledge":
            assert "ledger sync" in calls[:place][-3:]


def _note(calls, name, port, method):
    original = getattr(port, method)

    def call(*args, **kwargs):
        calls.append(f"{name} {method}")
        return original(*args, **kwargs)

    setattr(port, method, call)


def test_when_it_stops_it_waits_for_what_runs_but_not_for_code_that_is_imported(tmp_path):
    loading = [True]
    world = World(tmp_path, SlowPool(), is_loading=lambda: loading[0])
    world.arrive(1)
    world.bundle()
    assert world.worker.running == 1
    world.worker.stop()
    assert world.worker.is_over
    loading[0] = False
    assert not world.worker.is_over
    world.pool.is_ready = True
    world.bundle()
    assert world.worker.is_over
