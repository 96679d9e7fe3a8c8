"""The world: files, clock, ports, all who act in it, and who comes next."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from segue.model import dead_letter
from segue.model.media_file import MediaFile
from segue.model.queue import Letter, topics_of
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.simulator.actors import GRACE_S, LEASE_S, Actor, Call, Filler, Sweeping, Worker
from segue_support.simulator.chaos import Fate
from segue_support.simulator.outside import BUCKET, Outside, uri_of
from segue_support.simulator.promises import Broken, Watch
from segue_support.simulator.scenario import Scenario, graph_of
from segue_support.simulator.store import MemoryStore

if TYPE_CHECKING:
    from segue.model.record import Lease
    from segue_support.simulator.actors import Process

DEADLINE_S = 40.0  # of the queue
TICK = timedelta(seconds=0.5)  # between any two actions
LONG_TICK = timedelta(seconds=5)  # while somebody stands still
STALL_S = 2 * LEASE_S
PREEMPT = 0.06  # how often others go first before a call
DEPTH = 2  # of those, how many may stand waiting at once
MOST_ACTIONS = 6_000
MOST_ROUNDS = 60  # sweeps until all is quiet


class World:
    """One history, from its scenario to the end."""

    def __init__(self, scenario: Scenario, *, keep_history: bool = False) -> None:
        self.scenario = scenario
        self.rng = random.Random(scenario.seed)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.step = 0
        self.history: list[str] | None = [] if keep_history else None
        self.left = {n: getattr(scenario.trouble, n) for n in scenario.trouble.__dataclass_fields__}
        self.dead: set[str] = set()  # processes
        self.processes: dict[str, Process] = {}
        self.ledger = MemoryLedger()
        self.queue = MemoryQueue(clock=self.clock, deadline_s=DEADLINE_S)
        self.source = MemoryStore(BUCKET)
        self.artifacts = MemoryStore("gs://a")
        self.dead_letters: list[Letter] = []
        self.versions = [1] * len(scenario.shape)
        self.accepting = ""
        self.graph = graph_of(scenario.shape, tuple(self.versions), self.accepting)
        self.watch = Watch(self, LEASE_S)
        self.generations: dict[str, int | None] = {}
        self.newest_of: dict[str, int] = {}
        self.fates: dict[tuple[str, int, str, str], bool] = {}
        self.written: dict[str, int] = {}
        self._script = list(scenario.events)
        self.bus: list[Call] = []
        self._depth = 0
        self._rounds = 0
        self.outside = Outside(self)
        for file in range(scenario.files):
            self.put(file)
        self.sweeping = Sweeping(self)
        self.fillers: list[Filler] = []
        self.workers = [Worker(self, f"w{i}", jobs) for i, jobs in enumerate(scenario.teams)]

    # What is asked of the world.

    def clock(self) -> datetime:
        """What time it is."""
        return self.now

    def note(self, who: str, what: str) -> None:
        """Write the history, if somebody wants to read it."""
        if self.history is not None:
            indent = "  " * self._depth
            self.history.append(f"{self.step:5} {self.now:%H:%M:%S} {indent}{who:12} {what}")

    def happens(self, trouble: str, chance: float) -> bool:
        """Whether something goes wrong just now; so often as the scenario says, and no more."""
        if not self.left[trouble] or self.rng.random() >= chance:
            return False
        self.left[trouble] -= 1
        return True

    def fate(self, actor: Actor) -> Fate:
        """Let others go first, and then say what becomes of a call."""
        r = self.rng.random()
        if r < PREEMPT:
            if self._depth < DEPTH:
                self._preempt(actor)
        elif r < PREEMPT + 0.05:
            if self.happens("crashes", 1.0):
                return Fate.DEAD_BEFORE if r < PREEMPT + 0.025 else Fate.DEAD_AFTER
        elif r < PREEMPT + 0.12 and self.happens("outages", 1.0):
            return Fate.AWAY_BEFORE if r < PREEMPT + 0.085 else Fate.AWAY_AFTER
        return Fate.GOOD

    def _preempt(self, actor: Actor) -> None:
        self.note(actor.name, "has to wait")
        self._depth += 1
        for _ in range(self.rng.choice((1, 2, 4, 8))):
            self._advance()
        self._depth -= 1

    def is_seen_dead(self, owner: str) -> bool:
        """Whether others can see that an owner's process is gone."""
        return self.scenario.sees_the_dead and owner.partition("/")[0] in self.dead

    def is_lost(self, lease: Lease) -> bool:
        """Whether somebody may know that nobody works under a lease."""
        process = self.processes.get(lease.owner.partition("/")[0])
        abandoned = process is not None and lease.owner in process.abandoned
        return abandoned or self.is_seen_dead(lease.owner)

    def stepped_at(self, lease: Lease) -> datetime | None:
        """When the last good step of a lease's worker began; None if it is dead, or none."""
        name = lease.owner.partition("/")[0]
        process = self.processes.get(name)
        return process.stepped_at if isinstance(process, Worker) and process.name == name else None

    def generation(self, uri: str) -> int | None:
        """Which version of a file is there."""
        return self.generations.get(uri)

    def newest(self, uri: str) -> int | None:
        """The last version of a file that ever was there."""
        return self.newest_of.get(uri)

    def listing(self) -> list[MediaFile]:
        """All files that are there."""
        return [MediaFile(uri=u, generation=g) for u, g in self.generations.items() if g]

    def fails(self, media: MediaFile, job: str, fingerprint: str) -> bool:
        """Whether a job fails for good on a version of a file; until it is retried, the same."""
        if not self.scenario.failing:
            return False
        key = (media.uri, media.generation, job, fingerprint)
        if key not in self.fates:
            self.fates[key] = self.rng.random() < self.scenario.failing
        return self.fates[key]

    def has_artifact(self, uri: str) -> bool:
        """Whether there is an artifact."""
        return uri in self.written

    def write(self, name: str, *, replace: bool) -> str:
        """Write an artifact, and return its URI."""
        uri = self.artifacts.uri(name)
        made = self.artifacts.create(
            name, b"", content_type="application/json", metadata={}, replace=replace
        )
        if made:
            self.written[uri] = self.step
        return uri

    def written_at(self, uri: str) -> int:
        """At which step an artifact was written."""
        return self.written.get(uri, -1)

    def dead_payloads(self) -> list[bytes]:
        """What is among the dead letters."""
        return [dead_letter.decode(one.data).data for one in self.dead_letters]

    # How it goes on.

    def run(self) -> None:
        """Let all happen, until all is quiet; raises ``Broken`` if a promise is not kept."""
        while self._advance() or self._is_unquiet():
            if self.step > MOST_ACTIONS:
                raise Broken("complete", f"it does not end: {list(self.queue.queued.values())[:3]}")
        self.watch.is_quiet()

    def _advance(self) -> bool:
        """Let one thing happen; False if nothing can."""
        rng, step = self.rng, self.step
        letters = self.queue.queued
        stands = False
        working = []
        for worker in self.workers:
            if worker.paused_until > step:
                stands = True
            elif not worker.busy and worker.has_work:
                working.append(worker)
        calls = [c for c in self.bus if not c.busy and not c.late]
        fillers = [f for f in self.fillers if not f.busy]
        weights = (
            4.0 * bool(letters),
            5.0 * bool(working),
            2.0 * bool(calls),
            1.5 * bool(fillers),
            0.7 * bool(self._script and not self._depth),
        )
        total = sum(weights)
        if not total:
            return False
        self.step += 1
        self.now += LONG_TICK if stands else TICK
        if rng.random() < 0.03:
            self._disturb()
            return True
        r = rng.random() * total
        if (r := r - weights[0]) < 0:
            self._deliver(letters)
        elif (r := r - weights[1]) < 0:
            worker = rng.choice(working)
            worker.live(worker.act)
        elif (r := r - weights[2]) < 0:
            self._call(rng.choice(calls))
        elif r - weights[3] < 0:
            self._fill(rng.choice(fillers))
        else:
            self.outside.happen(self._script.pop(0))
        return True

    def _deliver(self, letters: dict[str, Letter]) -> None:
        """Hand over any letter to anybody who takes such; if there is nobody, time goes by."""
        if self.happens("copies", 0.03):
            letters = self.queue.hidden or letters  # while somebody is at it
        message_id = self.rng.choice(list(letters))
        topic = letters[message_id].topic
        able = [
            w
            for w in self.workers
            if topic in w.served and not w.busy and w.paused_until <= self.step and w.responder.room
        ]
        if able:
            worker = able[0] if len(able) == 1 else self.rng.choice(able)
            worker.live(lambda: worker.receive(message_id))

    def _call(self, call: Call) -> None:
        call.live(call.act)
        if call.done and not self.happens("copies", 0.2):
            self.bus.remove(call)

    def _fill(self, filler: Filler) -> None:
        filler.live(filler.act)
        if filler.finished:
            self.fillers.remove(filler)

    def _disturb(self) -> None:
        """Something that nobody has asked for."""
        rng = self.rng
        r = rng.random()
        idle = [w for w in self.workers if not w.busy]
        if r < 0.4:
            if not self.sweeping.busy:
                self.sweeping.live(self.sweeping.act)
        elif r < 0.7:
            if self.happens("stalls", 1.0):
                if idle and rng.random() < 0.6:
                    worker = rng.choice(idle)
                    worker.paused_until = self.step + rng.randint(10, 60)
                    self.note(worker.name, "stands still")
                else:
                    self.now += timedelta(seconds=STALL_S)
                    self.note("all", "stand still")
        elif idle and self.happens("crashes", 1.0):
            worker = rng.choice(idle)
            self.note(worker.name, "is dead")
            worker.die()
        elif idle and self.left["stalls"]:
            worker = rng.choice(idle)
            self.note(worker.name, "is stopped")
            worker.stop()

    def _is_unquiet(self) -> bool:
        """When nothing can happen, time goes by and what was late comes; False once all is done."""
        if self._script:
            self.outside.happen(self._script.pop(0))
            return True
        for worker in self.workers:
            worker.paused_until = 0
        if late := [call for call in self.bus if call.late]:
            for call in late:
                call.late = False
            return True
        self._rounds += 1
        if self._rounds > MOST_ROUNDS:
            raise Broken("complete", f"something is owed for ever: {self.ledger.records}")
        self.step += 1
        began = self.step
        self.now += timedelta(seconds=LEASE_S + GRACE_S + DEADLINE_S)
        self.sweeping.start()  # from the beginning, wherever the limit had stopped it
        quiet: list[bool] = []
        self.sweeping.live(lambda: quiet.append(self.sweeping.run(limit=1000)))
        busy = (
            any((self.queue.depth(topics_of(self.graph)) or {}).values())
            or any(worker.has_work for worker in self.workers)
            or self.bus
            or self.fillers
            or self._script
        )
        return bool(busy) or quiet != [True] or self.step != began

    def put(self, file: int) -> MediaFile:
        """A new version of a file is in the store."""
        uri = uri_of(file)
        name = uri.rpartition("/")[2]
        self.source.create(name, b"", content_type="audio/wav", metadata={}, replace=True)
        generation = self.source.stat(name).generation
        self.newest_of[uri] = self.generations[uri] = generation
        return MediaFile(uri=uri, generation=generation)
