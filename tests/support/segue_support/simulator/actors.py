"""The actors of a history: streaming workers, backfills, the sweep, and calls of functions.

Each is a separate process, which may die at any call of a port and is then started again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from segue.errors import Contended, DiskFull, TransientError, Unavailable
from segue.execution import reply, responder
from segue.execution.executor import Executor
from segue.execution.reply import ReceivedMessage, Reply
from segue.ingest.sweep import Sweeper
from segue.model.outcome import Outcome, Status
from segue.model.queue import ReceivedEnvelope, list_topics
from segue_support.simulator.faults import Killed
from segue_support.simulator.faulty_ports import FaultyLedger, FaultyQueue, FaultyStore
from segue_support.simulator.promises import BrokenPromise
from segue_support.simulator.simulated_pool import SimulatedPool

if TYPE_CHECKING:
    from datetime import datetime

    from segue.model.record import Lease
    from segue_support.simulator.promises import PromiseChecker
    from segue_support.simulator.scenario import BackfillStart
    from segue_support.simulator.world import World

LEASE_S = 60.0
GRACE_S = 90.0


class Actor:
    """Acts in steps; other actors may run between two steps, and before each call."""

    def __init__(self, world: World, checker: PromiseChecker, name: str) -> None:
        self.world = world
        self.checker = checker
        self.name = name
        self.busy = False
        self.repeats = False  # whether it repeats finished work
        self.sweeps = False  # whether it publishes messages for jobs that others have lost
        self.ledger = FaultyLedger(world, checker, self)
        self.queue = FaultyQueue(world, checker, self)
        self.artifacts = FaultyStore(world, checker, self, world.artifacts)

    def perform(self, action: Callable[[], None]) -> None:
        """Run an action; if it is killed, die."""
        self.busy = True
        try:
            action()
        except Killed:
            self.die()
        finally:
            self.busy = False

    def die(self) -> None:
        """Lose everything that was in memory."""


class SimulatedProcess(Actor):
    """An actor that holds leases, whose death therefore affects others."""

    def __init__(self, world: World, checker: PromiseChecker, role: str) -> None:
        super().__init__(world, checker, role)
        self.role = role
        self.starts = 0
        self.abandoned: set[str] = set()  # owners that this process knows to be gone
        self.last_step_at: datetime | None = None  # when a worker's last successful step began

    def start_process(self) -> None:
        """Continue as a new process with a new name."""
        self.starts += 1
        self.name = f"{self.role}.{self.starts}"
        self._owners = itertools.count(1)
        self.abandoned = set()
        self.world.processes[self.name] = self

    def die(self) -> None:
        """Leave leases behind, which others may or may not detect as lost."""
        self.world.dead.add(self.name)

    def new_owner(self) -> str:
        """Return a new owner name for leases."""
        return f"{self.name}/{next(self._owners)}"

    def is_lost(self, lease: Lease) -> bool:
        """Whether this process knows that a lease is lost."""
        return lease.owner in self.abandoned or self.world.is_known_dead(lease.owner)


class Worker(SimulatedProcess):
    """A streaming pipeline's worker: pulls, answers, publishes, acknowledges."""

    def __init__(
        self, world: World, checker: PromiseChecker, role: str, jobs: tuple[str, ...]
    ) -> None:
        super().__init__(world, checker, role)
        self.jobs = jobs
        self.topics = list_topics(world.graph, jobs)
        self.served = frozenset(self.topics)
        self.paused_until = 0  # a step of the world
        self.start()

    def start(self) -> None:
        """Start with nothing in memory."""
        self.start_process()
        graph = self.world.graph
        self.pool = SimulatedPool(self.world, self.checker, self, graph)
        self.responder = responder.Responder(
            graph=graph,
            jobs=self.jobs,
            ledger=self.ledger,
            pool=self.pool,
            artifacts=self.artifacts,
            clock=self.world.clock,
            owner=self.new_owner,
            lost=self.is_lost,
            lease_s=LEASE_S,
        )
        self.open: dict[str, ReceivedEnvelope] = {}  # messages without a reply, by receipt
        self.unsent: list[Reply] = []
        self.last_step_at = self.world.now

    def die(self) -> None:
        """Have the queue redeliver the open messages, at once or after the deadline."""
        super().die()
        if self.world.rng.random() < 0.5:
            self.give_back()
        self.start()

    def stop(self) -> None:
        """Stop as a worker does that still has work, and start again."""
        self.abandon()
        self.start()

    def give_back(self) -> None:
        """Return the open messages to the queue."""
        unsent = [r.received.handle for r in self.unsent]
        self.world.queue.extend([*self.open.values(), *unsent], 0)

    @property
    def has_work(self) -> bool:
        """Whether it has messages to process or replies to send."""
        return bool(self.unsent or self.open)

    def act(self) -> None:
        """Send replies, extend deadlines or process messages, at random."""
        r = self.world.rng.random()
        if self.unsent and (r < 0.4 or not self.responder.pending):
            self.send()
        elif r > 0.95:
            self.extend()
        else:
            self.step()

    def receive(self, message_id: str) -> None:
        """Receive one message, and perhaps more."""
        rng = self.world.rng
        try:
            envelopes = [self.queue.deliver(message_id)]
            if rng.random() < 0.3 and self.responder.room > 1:
                envelopes += self.queue.pull(self.topics, limit=rng.randint(1, 3))
        except (Unavailable, KeyError):  # another worker has acknowledged it meanwhile
            return
        self.open.update((d.ack_id, d) for d in envelopes)
        if self.world.history is not None:
            for one in envelopes:
                self.world.note(
                    self.name, f"gets {one.message_id} {one.data.decode(errors='replace')}"
                )
        self.responder.add(
            [
                ReceivedMessage(
                    job=d.topic.rpartition("-")[0], data=d.data, handle=d, message_id=d.message_id
                )
                for d in envelopes
            ]
        )

    def step(self) -> None:
        """Process messages and collect the replies."""
        now = self.world.now
        try:
            replies = self.responder.step(0.0)
        except (Unavailable, Contended):
            self._check_all_present()
            if self.world.rng.random() < 0.25:
                self.abandon()
            return
        except DiskFull:
            self.world.note(self.name, "finds the disk full")
            self.abandon()
            return
        self.last_step_at = now
        for one in replies:
            if self.open.pop(one.received.handle.ack_id, None) is None:
                raise BrokenPromise("durable", f"{self.name} has replied twice: {one}")
            self.unsent.append(one)
            if self.world.history is not None:
                self.world.note(
                    self.name,
                    f"{one.action} {one.received.message_id} at {one.job}: {one.reason or ''}",
                )
        self._check_all_present()

    def _check_all_present(self) -> None:
        """Raise if a received message is neither in the responder nor replied to."""
        missing = len(self.open) - self.responder.pending
        if not 0 <= missing <= self.pool.full_disks:
            raise BrokenPromise(
                "durable",
                f"{self.name} has received {len(self.open)} messages that have no reply, "
                f"and its responder has {self.responder.pending}",
            )

    def extend(self) -> None:
        """Extend the queue's deadlines."""
        try:
            self.queue.extend(list(self.open.values()), LEASE_S)
        except Unavailable:
            return

    def send(self) -> None:
        """Publish the messages of some replies, then acknowledge."""
        some = self.unsent[: self.world.rng.randint(1, len(self.unsent))]
        try:
            reply.send(some, queue=self.queue, ledger=self.ledger, clock=self.world.clock)
            self.queue.acknowledge([one.received.handle for one in some])
        except (Unavailable, Contended):
            if self.world.rng.random() < 0.25:
                self.abandon()
            return
        del self.unsent[: len(some)]

    def abandon(self) -> None:
        """Give up a bundle; the process lives on, and knows that these owners are gone."""
        self.world.note(self.name, "abandons its messages")
        self.abandoned.update(self.responder.abandon())
        if self.world.rng.random() < 0.5:
            self.give_back()
        self.open.clear()
        self.unsent.clear()
        self.pool.full_disks = 0


class SimulatedBackfill(SimulatedProcess):
    """A backfill, which is run again until it finishes."""

    def __init__(
        self, world: World, checker: PromiseChecker, role: str, event: BackfillStart
    ) -> None:
        super().__init__(world, checker, role)
        self.event = event
        self.finished = False
        # If it resets results and does not finish, its user has to run it again.
        self.repeats = event.force or event.retry
        self.outcomes: Iterator[Outcome] = iter(())
        self.start()

    def start(self) -> None:
        """List the files again, and start an executor."""
        self.start_process()
        files = self.world.list_files()
        event = self.event
        for media in files:
            self.checker.expect(media.uri, event.jobs, force=event.force, retry=event.retry)
        executor = Executor(
            graph=self.world.graph,
            ledger=self.ledger,
            pool=SimulatedPool(self.world, self.checker, self, self.world.graph),
            artifacts=self.artifacts,
            targets=event.jobs,
            owner=self.new_owner(),
            force=event.force,
            retry=event.retry,
            lost=self.is_lost,
            clock=self.world.clock,
            lease_s=LEASE_S,
        )
        self.outcomes = itertools.chain(executor.add(files), executor.drain())

    def die(self) -> None:
        """Start again, or finish, at random."""
        super().die()
        if self.world.rng.random() < 0.5:
            self.start()
        else:
            self.finished = True

    def act(self) -> None:
        """Advance to the next outcome."""
        try:
            outcome = next(self.outcomes, None)
        except TransientError:
            self.start()
            return
        if outcome is None:
            self.finished = True
            return
        self.world.note(self.name, f"{outcome.media.uri}: {outcome.jobs}")
        waiting = tuple(t for t in self.event.jobs if outcome.jobs.get(t) is Status.WAITING)
        if waiting and not self.event.force:  # they are pending at the jobs that others compute
            media = outcome.media
            self.checker.expect(media.uri, waiting, accepted=True, generation=media.generation)


class ScheduledSweep(SimulatedProcess):
    """The scheduled sweep."""

    def __init__(self, world: World, checker: PromiseChecker) -> None:
        super().__init__(world, checker, "sweep")
        self.sweeps = True
        self.start()

    def start(self) -> None:
        """Start with the first page."""
        self.start_process()
        self.sweeper = Sweeper(
            graph=self.world.graph,
            ledger=self.ledger,
            queue=self.queue,
            clock=self.world.clock,
            lost=self.is_lost,
            grace_s=GRACE_S,
        )

    def die(self) -> None:
        """Continue as another process."""
        super().die()
        self.start()

    def act(self) -> None:
        """Run once, with a random limit."""
        self.run(limit=self.world.rng.choice((1, 3, 1000)))

    def run(self, limit: int) -> bool:
        """Sweep; return whether there was nothing to do."""
        try:
            swept = self.sweeper.run(limit=limit)
        except TransientError:
            return False
        self.world.note(self.name, f"pending {swept.pending}, expired {swept.expired}")
        return not swept.messages and not swept.limited


class FunctionCall(Actor):
    """A call of a function, which is repeated until it succeeds."""

    def __init__(
        self,
        world: World,
        checker: PromiseChecker,
        name: str,
        action: Callable[[FunctionCall], bool],
        *,
        late: bool = False,
    ) -> None:
        super().__init__(world, checker, name)
        self.late = late
        self.done = False
        self._action = action

    def act(self) -> None:
        """Call the function once."""
        self.world.note(self.name, "is called")
        try:
            self.done = self._action(self)
        except TransientError:
            return

    def die(self) -> None:
        """Leave the event to be delivered again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actors:
    """All actors of a history; backfills and calls come and go."""

    sweep: ScheduledSweep
    workers: list[Worker]
    backfills: list[SimulatedBackfill] = field(default_factory=list)
    calls: list[FunctionCall] = field(default_factory=list)
