"""Garbage collection at any moment of a run: no result is done without its artifact.

Both are the real ones. They take turns in each call to the ledger and to the store.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from segue.errors import TransientError
from segue.execution.engine import Engine
from segue.execution.work import Run
from segue.maintenance.garbage import GarbageCollector
from segue.model.artifact import compute_checksum
from segue.model.graph import Graph, parse_graph
from segue.model.media_file import MediaFile
from segue.model.outcome import Outcome, Status
from segue.model.record import Lease, Record, State, evolve
from segue.model.transitions import Result
from segue.worker.failure import describe_failure
from segue.worker.line_run import Claims, LineRun, Stores, load_job
from segue.worker.protocol import Report, Task
from segue_support.ledger import MemoryLedger
from segue_support.simulator.store import MemoryStore

NOW = datetime.now(UTC)
TEXT = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  after: {run: "segue_support.jobs:after", needs: {value: fine}, writes: application/json}
"""
GRAPH = parse_graph(TEXT)
NEXT = parse_graph(TEXT.replace("fine: {run", "fine: {version: 2, run"))
ARTIFACTS, MUSIC = "gs://artifacts", "gs://music"
HISTORIES = 60
TURNS = 30
MAX_WAIT_S = 10.0
CALLS = frozenset({"read", "change", "list", "stat", "create", "delete"})


class Turns:
    """Lets two actors make their calls in a given order, and after that in any."""

    def __init__(self, order: Sequence[str]) -> None:
        self._order = deque(order)
        self._gone: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, actor: str) -> Iterator[None]:
        """Wait for the actor's turn, and have others wait meanwhile."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._find_next() in (actor, None), MAX_WAIT_S)
            if self._order:
                self._order.popleft()
            yield
            self._changed.notify_all()

    def leave(self, actor: str) -> None:
        """Have nobody wait for an actor any more."""
        with self._changed:
            self._gone.add(actor)
            self._changed.notify_all()

    def _find_next(self) -> str | None:
        while self._order and self._order[0] in self._gone:
            self._order.popleft()
        return self._order[0] if self._order else None


class Port:
    """A ledger or a store, as one actor sees it."""

    def __init__(self, port: Any, actor: str, turns: Turns | None) -> None:
        self._port, self._actor, self._turns = port, actor, turns

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        if self._turns is None or name not in CALLS:
            return member

        def call(*args: Any, **options: Any) -> Any:
            assert self._turns is not None
            with self._turns.take(self._actor):
                found = member(*args, **options)
                return iter(list(found)) if name == "list" else found

        return call


class InlinePool:
    """Runs tasks as a child process does, in this one."""

    processes = 1
    batch_files = 0

    def __init__(self, graph: Graph, stores: Stores, claims: Claims, folder: str) -> None:
        self._graph, self._stores, self._claims, self._folder = graph, stores, claims, folder
        self._reports: list[Report] = []
        self.damaged: list[str] = []

    def submit(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            line = LineRun(task, self._stores, self._folder, self._claims)
            results = [self._run(line, name) for name in task.run]
            self._reports.append(
                Report(task_id=task.task_id, results=tuple(results), finished=True)
            )

    def flush(self) -> None: ...

    def collect(self, timeout_s: float) -> list[Report]:
        reports, self._reports = self._reports, []
        return reports

    def _run(self, line: LineRun, name: str) -> Result:
        job = load_job(self._graph, name)
        try:
            written = line.write(job, job.call(line.load_inputs(job)))
        except TransientError as error:
            damaged = getattr(error, "job", None)
            self.damaged += [damaged] if damaged else []
            failure = describe_failure(error, 1.0).failure
            return Result(job=name, state=State.QUEUED, error=failure, damaged=damaged)
        return Result(job=name, state=State.DONE, artifacts=written)


class World:
    """A file, its record and its artifacts."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.ledger = MemoryLedger()
        self.artifacts = MemoryStore(ARTIFACTS)
        self.music = MemoryStore(MUSIC)
        self.music.create("a.wav", b"sound", content_type="audio/wav", metadata={})
        self.media: MediaFile = self.music.stat("a.wav").to_media_file(self.music.uri("a.wav"))

    @property
    def record(self) -> Record:
        return self.ledger.records[self.media.uri]

    def run(self, graph: Graph, turns: Turns | None = None) -> tuple[Outcome, InlinePool]:
        """Have all jobs of a graph done."""
        ledger = Port(self.ledger, "worker", turns)
        store = Port(self.artifacts, "worker", turns)
        stores = Stores(lambda where: store if where == ARTIFACTS else self.music, ARTIFACTS)
        pool = InlinePool(graph, stores, Claims(lambda: ledger), self._folder)
        engine = Engine(graph=graph, ledger=ledger, pool=pool, artifacts=store, clock=lambda: NOW)
        engine.add_files([self.media], Run(id="run", targets=tuple(graph.jobs)))
        [outcome] = engine.drain()
        assert isinstance(outcome, Outcome)
        return outcome, pool

    def collect(self, graph: Graph, turns: Turns | None = None) -> None:
        """Remove all that a graph does not need, however young."""
        collector = GarbageCollector(
            graph=graph,
            ledger=Port(self.ledger, "gc", turns),
            artifacts=Port(self.artifacts, "gc", turns),
            before=NOW + timedelta(days=1),
            clock=lambda: NOW,
        )
        for _ in collector.collect(collector.find()):
            pass

    def change(self, **changes: Any) -> None:
        self.ledger = MemoryLedger([evolve(self.record, **changes)])

    def check(self) -> None:
        """Raise an error if a result is done, and its artifact is not there or another one."""
        for fingerprint, entry in self.record.results.items():
            if entry.state is State.DONE:
                [name] = self.record.name_artifacts(fingerprint)
                data = self.artifacts.read(name)
                assert list(entry.checksums.values()) == [compute_checksum(data)]


def leave_nothing(world: World) -> None:
    """Only the file has arrived."""


def finish(world: World) -> None:
    """Both jobs are done."""
    world.run(GRAPH)


def finish_the_first(world: World) -> None:
    """The artifact of the first job is to be used, and there is a leftover of the second one."""
    world.run(GRAPH)
    world.change(results={f: e for f, e in world.record.results.items() if e.job == "fine"})


def leave_artifacts(world: World) -> None:
    """There are leftovers of both jobs."""
    world.run(GRAPH)
    world.change(results={})


def leave_a_dead_run(world: World) -> None:
    """A run was killed after it had written both artifacts."""
    world.run(GRAPH)
    lease = Lease(owner="elsewhere/1/1/a", expires_at=NOW - timedelta(seconds=1))
    world.change(
        results={
            f: evolve(e, state=State.RUNNING, lease=lease, checksums={}, finished_at=None)
            for f, e in world.record.results.items()
        }
    )


def finish_the_next_version(world: World) -> None:
    """The jobs are done for two graphs; this run is a rollback."""
    world.run(GRAPH)
    world.run(NEXT)


@pytest.mark.parametrize("collecting", [GRAPH, NEXT], ids=["same graph", "next graph"])
@pytest.mark.parametrize(
    "prepare",
    [
        leave_nothing,
        finish,
        finish_the_first,
        leave_artifacts,
        leave_a_dead_run,
        finish_the_next_version,
    ],
)
def test_gc_at_any_moment_of_a_run_harms_nothing(
    tmp_path, prepare: Callable[[World], None], collecting: Graph
) -> None:
    for seed in range(HISTORIES):
        world = World(str(tmp_path))
        prepare(world)
        order = _draw_order(random.Random(seed))
        turns = Turns(order)
        with ThreadPoolExecutor(2) as threads:
            running = threads.submit(_leave_after, turns, "worker", world.run, GRAPH)
            collected = threads.submit(_leave_after, turns, "gc", world.collect, collecting)
            outcome, pool = running.result()
            collected.result()
        assert set(outcome.jobs.values()) <= {Status.DONE, Status.CURRENT}, (seed, outcome)
        assert pool.damaged == [], seed
        world.check()
        if collecting is GRAPH:
            assert {e.state for e in world.record.results.values()} == {State.DONE}, seed
            assert set(GRAPH.fingerprints.values()) <= set(world.record.results), seed
        world.collect(NEXT)
        left = {found.name.split("/")[1] for found in world.artifacts.list()}
        assert left <= set(NEXT.fingerprints.values()), seed
        assert set(world.record.results) <= set(NEXT.fingerprints.values()), seed


def _leave_after(turns: Turns, actor: str, act: Callable[..., Any], graph: Graph) -> Any:
    try:
        return act(graph, turns)
    finally:
        turns.leave(actor)


def _draw_order(rng: random.Random) -> list[str]:
    """Draw an order of turns: either one often comes several times in a row."""
    order: list[str] = []
    while len(order) < TURNS:
        order += [rng.choice(("worker", "gc"))] * rng.choice((1, 1, 2, 3, 5, 8))
    return order
