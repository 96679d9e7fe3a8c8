"""The state of one history: clock, randomness, files, ledger, queue and stores."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from segue.model import dead_letter
from segue.model.media_file import MediaFile
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.simulator.faults import CallFault
from segue_support.simulator.scenario import Scenario, build_graph
from segue_support.simulator.store import MemoryStore

if TYPE_CHECKING:
    from segue.model.queue import Envelope
    from segue.model.record import Lease

BUCKET = "gs://c"
PREFIX = f"{BUCKET}/f"
DEADLINE_S = 40.0  # of the queue
PREEMPTION = 0.06  # probability that other actors run before a call
MAX_DEPTH = 2  # of nested preemptions


def build_uri(file: int) -> str:
    """Return the URI of a file."""
    return f"{PREFIX}{file}.wav"


class Caller(Protocol):
    """An actor, as the ports and the promise checker see it."""

    name: str
    repeats: bool  # whether it repeats finished work
    sweeps: bool  # whether it publishes messages for jobs that others have lost


class LeaseHolder(Protocol):
    """A process, as its leases show it."""

    name: str
    abandoned: set[str]  # owners that this process knows to be gone
    last_step_at: datetime | None  # when its last successful step began


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
        self.ledger = MemoryLedger()
        self.queue = MemoryQueue(clock=self.clock, deadline_s=DEADLINE_S)
        self.source = MemoryStore(BUCKET)
        self.artifacts = MemoryStore("gs://a")
        self.dead_letters: list[Envelope] = []
        self.versions = [1] * len(scenario.shape)
        self.accepting = ""
        self.graph = build_graph(scenario.shape, tuple(self.versions), self.accepting)
        self.generations: dict[str, int | None] = {}
        self.newest_generations: dict[str, int] = {}
        self.job_failures: dict[tuple[str, int, str, str], bool] = {}
        self.written: dict[str, int] = {}
        self.advance: Callable[[], object] = lambda: None  # run one actor; set by the simulation
        self.depth = 0  # of nested preemptions
        for file in range(scenario.files):
            self.put(file)

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
        """When the last successful step of a lease's worker began; None if no worker is alive."""
        name = lease.owner.partition("/")[0]
        process = self.processes.get(name)
        return process.last_step_at if process is not None and process.name == name else None

    def list_files(self) -> list[MediaFile]:
        """Return all files that exist."""
        return [MediaFile(uri=u, generation=g) for u, g in self.generations.items() if g]

    def should_fail(self, media: MediaFile, job: str, fingerprint: str) -> bool:
        """Whether a job fails permanently on a version of a file; constant until it is retried."""
        if not self.scenario.failing:
            return False
        key = (media.uri, media.generation, job, fingerprint)
        if key not in self.job_failures:
            self.job_failures[key] = self.rng.random() < self.scenario.failing
        return self.job_failures[key]

    def has_artifact(self, uri: str) -> bool:
        """Whether an artifact exists."""
        return uri in self.written

    def write(self, name: str, *, replace: bool) -> str | None:
        """Write an artifact, and return its URI; None if it is there and must not be replaced."""
        uri = self.artifacts.uri(name)
        is_new = self.artifacts.create(
            name, b"", content_type="application/json", metadata={}, replace=replace
        )
        if not is_new:
            return None
        self.written[uri] = self.step
        return uri

    def list_dead_payloads(self) -> list[bytes]:
        """Return the messages inside the dead letters."""
        return [dead_letter.decode_dead_letter(one.data).data for one in self.dead_letters]

    def put(self, file: int) -> MediaFile:
        """Write a new version of a file to the store."""
        uri = build_uri(file)
        name = uri.rpartition("/")[2]
        self.source.create(name, b"", content_type="audio/wav", metadata={}, replace=True)
        generation = self.source.stat(name).generation
        self.newest_generations[uri] = self.generations[uri] = generation
        return MediaFile(uri=uri, generation=generation)
