"""The state of one history: clock, randomness, files, the queue, and the namespaces."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol, cast

from segue.model.media_file import MediaFile, split_uri
from segue_support.queue import MemoryQueue
from segue_support.simulator.deployments import deploy_first
from segue_support.simulator.faults import CallFault
from segue_support.simulator.folder import MemoryFolder
from segue_support.simulator.message_counter import MessageCounter
from segue_support.simulator.namespace import Namespace
from segue_support.simulator.scenario import NAMESPACES
from segue_support.simulator.store import MemoryStore

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.model.object_store import ObjectStore
    from segue.model.record import Lease
    from segue_support.simulator.scenario import Scenario

DEADLINE_S = 40.0  # of the queue
PREEMPTION = 0.06  # probability that other actors run before a call
MAX_DEPTH = 2  # of nested preemptions


def build_media(uri: str, generation: int) -> MediaFile:
    """Return a version of a file in a bucket."""
    return MediaFile(uri=uri, version=str(generation), order=generation)


class Caller(Protocol):
    """An actor, as the ports and the promise checker see it."""

    name: str
    home: Namespace
    graph: Graph  # as it was deployed when the process started
    serves: tuple[str, ...]  # the pipelines of a worker
    sweeps: bool  # whether it publishes messages for jobs that others have lost
    repeats: bool  # whether it reopens results, and may leave that unfinished
    retries: bool  # whether it reopens failures
    collects: bool  # whether it removes garbage
    pinned: frozenset[str]  # what others are locked to, as a collector knows it
    step_began_at: datetime | None  # of an engine
    begun: set[str]  # the URIs of which an engine has claimed jobs
    seen: dict[str, str]  # by URI: the version in the last record that it wrote, if it is alive

    def clock(self) -> datetime:
        """Return the time by its own clock."""


class LeaseHolder(Protocol):
    """A process, as its leases show it."""

    name: str
    abandoned: set[str]  # owners that this process knows to be gone
    last_step_at: datetime | None  # when its last successful step began
    clock_error: timedelta


class World:
    """The state that all actors of a history share."""

    def __init__(self, scenario: Scenario, *, keep_history: bool = False) -> None:
        self.scenario = scenario
        self.rng = random.Random(scenario.seed)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.step = 0
        self.history: list[str] | None = [] if keep_history else None
        self.faults_left = {
            n: getattr(scenario.faults, n) for n in scenario.faults.__dataclass_fields__
        }
        self.dead: set[str] = set()  # processes
        self.processes: dict[str, LeaseHolder] = {}
        self.queue = MemoryQueue(clock=self.clock, deadline_s=DEADLINE_S)
        self.topics: set[str] = set()  # that somebody is subscribed to
        self.folder = MemoryFolder() if scenario.in_folder else None
        self.source = cast("ObjectStore", self.folder or MemoryStore("gs://c"))
        self.prefix = self.source.uri("f/")  # of all files
        self.messages = MessageCounter(scenario.deployments)
        self.homes: list[Namespace] = []
        for number, deployed in enumerate(deploy_first(scenario.layouts)):
            self.homes.append(Namespace(self, number, deployed))
        self.generations: dict[str, int | None] = {}  # of all files that ever were there
        self.newest_generations: dict[str, int] = {}
        self.advance: Callable[[], object] = lambda: None  # run one actor; set by the simulation
        self.depth = 0  # of nested preemptions
        self.is_quiet = False  # whether all is done that is done without a sweep
        for file in range(scenario.files):
            self.put(file)

    def find_home(self, namespace: str) -> Namespace:
        """Return a namespace by its name."""
        return self.homes[NAMESPACES.index(namespace)]

    @property
    def was_deployed(self) -> bool:
        """Whether any namespace ever had another deployment than its first."""
        return any(len(home.graphs) > 1 for home in self.homes)

    def clock(self) -> datetime:
        """Return the simulated time."""
        return self.now

    def note(self, who: str, what: str) -> None:
        """Add a line to the history, if it is kept."""
        if self.history is not None:
            indent = "  " * self.depth
            self.history.append(f"{self.step:5} {self.now:%H:%M:%S} {indent}{who:12} {what}")

    def draw_fault(self, kind: str, chance: float) -> bool:
        """Decide whether a fault occurs now, within the scenario's budget."""
        if not self.faults_left[kind] or self.rng.random() >= chance:
            return False
        self.faults_left[kind] -= 1
        return True

    def stop_faults(self) -> None:
        """Let no more faults occur."""
        self.faults_left = dict.fromkeys(self.faults_left, 0)

    def draw_call_fault(self, caller: str) -> CallFault:
        """Let other actors run first, then draw the fault of a call."""
        r = self.rng.random()
        if r < PREEMPTION:
            if self.depth < MAX_DEPTH:
                self._preempt(caller)
        elif r < PREEMPTION + 0.05:
            if self.draw_fault("crashes", 1.0):
                return CallFault.CRASH_BEFORE if r < PREEMPTION + 0.025 else CallFault.CRASH_AFTER
        elif r < PREEMPTION + 0.12 and self.draw_fault("outages", 1.0):
            return CallFault.OUTAGE_BEFORE if r < PREEMPTION + 0.085 else CallFault.OUTAGE_AFTER
        return CallFault.NONE

    def _preempt(self, caller: str) -> None:
        self.note(caller, "has to wait")
        self.depth += 1
        for _ in range(self.rng.choice((1, 2, 4, 8))):
            self.advance()
        self.depth -= 1

    def is_known_dead(self, owner: str) -> bool:
        """Whether other processes can see that an owner's process is dead."""
        return self.scenario.detects_dead_processes and owner.partition("/")[0] in self.dead

    def is_lost(self, lease: Lease) -> bool:
        """Whether any process may know that nobody works under a lease."""
        process = self.processes.get(lease.owner.partition("/")[0])
        abandoned = process is not None and lease.owner in process.abandoned
        return abandoned or self.is_known_dead(lease.owner)

    def find_last_step(self, lease: Lease) -> datetime | None:
        """When a lease's worker began its last successful step, by its clock; None: it is dead."""
        name = lease.owner.partition("/")[0]
        process = self.processes.get(name)
        if process is None or process.name != name or process.last_step_at is None:
            return None
        return process.last_step_at + process.clock_error

    def draw_clock_error(self) -> timedelta:
        """Draw how far the clock of a process is ahead."""
        error_s = self.scenario.clock_error_s
        return timedelta(seconds=self.rng.uniform(-error_s, error_s) if error_s else 0.0)

    def build_uri(self, file: int) -> str:
        """Return the URI of a file."""
        return f"{self.prefix}{file}.wav"

    def list_files(self) -> list[MediaFile]:
        """Return all files that exist; those in a folder have yet to be read."""
        found = self.source.list(split_uri(self.prefix)[1])
        return [one.to_media_file(self.source.uri(one.name)) for one in found]

    def find_content(self, uri: str) -> str | None:
        """Return the version that a file has by now; None if it does not exist."""
        if self.folder is not None:
            return self.folder.find_content(split_uri(uri)[1])
        generation = self.generations.get(uri)
        return str(generation) if generation is not None else None

    def put(self, file: int) -> MediaFile:
        """Write a new version of a file to the store; one in a folder has yet to be read."""
        uri = self.build_uri(file)
        name = split_uri(uri)[1]
        if self.folder is not None:
            self.folder.write(name, self.rng)
            self.generations[uri] = None
            return MediaFile(uri=uri, version="")
        self.source.create(name, b"", content_type="audio/wav", metadata={}, replace=True)
        generation = self.source.stat(name).generation
        self.newest_generations[uri] = self.generations[uri] = generation
        return build_media(uri, generation)
