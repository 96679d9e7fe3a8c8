"""Who acts in the world: streaming workers, backfills, the sweeper, and calls of functions.

Each is a process of its own, which may die at any call of a port and is then started again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from segue.errors import Contended, DiskFull, TransientError, Unavailable
from segue.execution import outbox, responder
from segue.execution.executor import Executor
from segue.execution.responder import Received, Reply
from segue.ingest.sweep import Sweeper
from segue.model.outcome import Outcome, Status
from segue.model.queue import Delivery, topics_of
from segue_support.simulator.chaos import ChaoticLedger, ChaoticQueue, Killed
from segue_support.simulator.promises import Broken
from segue_support.simulator.simulated_pool import SimulatedCrew

if TYPE_CHECKING:
    from segue.model.record import Lease
    from segue_support.simulator.scenario import Fill
    from segue_support.simulator.world import World

LEASE_S = 60.0
GRACE_S = 90.0


class Actor:
    """Something that acts step by step; between two of them, and before each call, others may."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.busy = False
        self.repeats = False  # whether it does again what was done
        self.sweeps = False  # whether it asks for what others have lost
        self.ledger = ChaoticLedger(world, self)
        self.queue = ChaoticQueue(world, self)

    def live(self, action: Callable[[], None]) -> None:
        """Act, and perhaps die of it."""
        self.busy = True
        try:
            action()
        except Killed:
            self.die()
        finally:
            self.busy = False

    def die(self) -> None:
        """The process is gone, with all that it had in memory."""


class Process(Actor):
    """An actor that holds leases, so that its death matters to others."""

    def __init__(self, world: World, role: str) -> None:
        super().__init__(world, role)
        self.role = role
        self.births = 0
        self.abandoned: set[str] = set()  # owners that this process knows to be nobody

    def be_born(self) -> None:
        """A new process with a new name."""
        self.births += 1
        self.name = f"{self.role}.{self.births}"
        self._owners = itertools.count(1)
        self.abandoned = set()
        self.world.processes[self.name] = self

    def die(self) -> None:
        """Leave leases behind, which others may or may not know to be lost."""
        self.world.dead.add(self.name)

    def new_owner(self) -> str:
        """A name for one lease or many."""
        return f"{self.name}/{next(self._owners)}"

    def is_lost(self, lease: Lease) -> bool:
        """Whether a lease is known to be lost, here."""
        return lease.owner in self.abandoned or self.world.is_seen_dead(lease.owner)


class Worker(Process):
    """A streaming pipeline's worker: pulls, answers, publishes, acknowledges."""

    def __init__(self, world: World, role: str, jobs: tuple[str, ...]) -> None:
        super().__init__(world, role)
        self.jobs = jobs
        self.topics = topics_of(world.graph, jobs)
        self.served = frozenset(self.topics)
        self.paused_until = 0  # a step of the world
        self.start()

    def start(self) -> None:
        """Begin with nothing in memory."""
        self.be_born()
        graph = self.world.graph
        self.crew = SimulatedCrew(self.world, self, graph)
        self.responder = responder.Responder(
            graph=graph,
            jobs=self.jobs,
            ledger=self.ledger,
            crew=self.crew,
            clock=self.world.clock,
            owner=self.new_owner,
            lost=self.is_lost,
            lease_s=LEASE_S,
        )
        self.open: dict[str, Delivery] = {}  # by receipt: what has no reply yet
        self.unsent: list[Reply] = []
        self.stepped_at = self.world.now  # when its last good step began

    def die(self) -> None:
        """What it was handed comes again: at once, or once the queue misses it."""
        super().die()
        if self.world.rng.random() < 0.5:
            self.give_back()
        self.start()

    def stop(self) -> None:
        """Go away in good order, as far as one can while there is work."""
        self.abandon()
        self.start()

    def give_back(self) -> None:
        """The queue learns that nobody works on these."""
        unsent = [r.received.handle for r in self.unsent]
        self.world.queue.extend([*self.open.values(), *unsent], 0)

    @property
    def has_work(self) -> bool:
        """Whether it could act."""
        return bool(self.unsent or self.open)

    def act(self) -> None:
        """One of the things that it might do now."""
        r = self.world.rng.random()
        if self.unsent and (r < 0.4 or not self.responder.pending):
            self.send()
        elif r > 0.95:
            self.keep()
        else:
            self.step()

    def receive(self, message_id: str) -> None:
        """Take in one letter, and perhaps more."""
        rng = self.world.rng
        try:
            deliveries = [self.queue.deliver(message_id)]
            if rng.random() < 0.3 and self.responder.room > 1:
                deliveries += self.queue.pull(self.topics, limit=rng.randint(1, 3))
        except (Unavailable, KeyError):  # acknowledged by another meanwhile
            return
        self.open.update((d.receipt, d) for d in deliveries)
        if self.world.history is not None:
            for one in deliveries:
                self.world.note(
                    self.name, f"gets {one.message_id} {one.data.decode(errors='replace')}"
                )
        self.responder.add(
            [
                Received(
                    job=d.topic.rpartition("-")[0], data=d.data, handle=d, message_id=d.message_id
                )
                for d in deliveries
            ]
        )

    def step(self) -> None:
        """Work, and take what is answered."""
        began = self.world.now
        try:
            replies = self.responder.step(0.0)
        except (Unavailable, Contended):
            self._look_for_all()
            if self.world.rng.random() < 0.25:
                self.abandon()
            return
        except DiskFull:
            self.world.note(self.name, "finds the disk full")
            self.abandon()
            return
        self.stepped_at = began
        for reply in replies:
            if self.open.pop(reply.received.handle.receipt, None) is None:
                raise Broken("durable", f"{self.name} has replied twice: {reply}")
            self.unsent.append(reply)
            if self.world.history is not None:
                self.world.note(
                    self.name,
                    f"{reply.action} {reply.received.message_id} "
                    f"at {reply.job}: {reply.reason or ''}",
                )
        self._look_for_all()

    def _look_for_all(self) -> None:
        """Each message that came in is in there, or has its reply."""
        missing = len(self.open) - self.responder.pending
        if not 0 <= missing <= self.crew.full:
            raise Broken(
                "durable",
                f"{self.name} was given {len(self.open)} messages that have no reply, "
                f"and has {self.responder.pending}",
            )

    def keep(self) -> None:
        """Ask the queue for more time."""
        try:
            self.queue.extend(list(self.open.values()), LEASE_S)
        except Unavailable:
            return

    def send(self) -> None:
        """Publish what some replies say, then acknowledge."""
        some = self.unsent[: self.world.rng.randint(1, len(self.unsent))]
        try:
            outbox.send(some, queue=self.queue, ledger=self.ledger, clock=self.world.clock)
            self.queue.acknowledge([reply.received.handle for reply in some])
        except (Unavailable, Contended):
            if self.world.rng.random() < 0.25:
                self.abandon()
            return
        del self.unsent[: len(some)]

    def abandon(self) -> None:
        """Give up on a bundle; the process lives on, and knows that these owners are nobody."""
        self.world.note(self.name, "abandons what it has")
        self.abandoned.update(self.responder.abandon())
        if self.world.rng.random() < 0.5:
            self.give_back()
        self.open.clear()
        self.unsent.clear()
        self.crew.full = 0


class Filler(Process):
    """A backfill, which is run again until it has come to its end."""

    def __init__(self, world: World, role: str, fill: Fill) -> None:
        super().__init__(world, role)
        self.fill = fill
        self.finished = False
        # If it puts results back and does not come to its end, it is for its user to run it again.
        self.repeats = fill.force or fill.retry
        self.outcomes: Iterator[Outcome] = iter(())
        self.start()

    def start(self) -> None:
        """List the files anew, and begin."""
        self.be_born()
        files = self.world.listing()
        fill = self.fill
        for media in files:
            self.world.watch.ask(media.uri, fill.jobs, force=fill.force, retry=fill.retry)
        executor = Executor(
            graph=self.world.graph,
            ledger=self.ledger,
            crew=SimulatedCrew(self.world, self, self.world.graph),
            targets=fill.jobs,
            owner=self.new_owner(),
            force=fill.force,
            retry=fill.retry,
            lost=self.is_lost,
            clock=self.world.clock,
            lease_s=LEASE_S,
        )
        self.outcomes = itertools.chain(executor.add(files), executor.drain())

    def die(self) -> None:
        """Somebody starts it again, or nobody does."""
        super().die()
        if self.world.rng.random() < 0.5:
            self.start()
        else:
            self.finished = True

    def act(self) -> None:
        """Go on to the next outcome."""
        try:
            outcome = next(self.outcomes, None)
        except TransientError:
            self.start()
            return
        if outcome is None:
            self.finished = True
            return
        self.world.note(self.name, f"{outcome.media.uri}: {outcome.jobs}")
        left = tuple(t for t in self.fill.jobs if outcome.jobs.get(t) is Status.WAITING)
        if left and not self.fill.force:  # its word is left with whoever is at it
            media = outcome.media
            self.world.watch.ask(media.uri, left, accepted=True, generation=media.generation)


class Sweeping(Process):
    """The scheduled sweep."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "sweep")
        self.sweeps = True
        self.start()

    def start(self) -> None:
        """Begin with the first page."""
        self.be_born()
        self.sweeper = Sweeper(
            graph=self.world.graph,
            ledger=self.ledger,
            queue=self.queue,
            clock=self.world.clock,
            lost=self.is_lost,
            grace_s=GRACE_S,
        )

    def die(self) -> None:
        """The next run is another process's."""
        super().die()
        self.start()

    def act(self) -> None:
        """One run."""
        self.run(limit=self.world.rng.choice((1, 3, 1000)))

    def run(self, limit: int) -> bool:
        """Sweep; answers whether there was nothing to do."""
        try:
            swept = self.sweeper.run(limit=limit)
        except TransientError:
            return False
        self.world.note(self.name, f"owed {swept.owed}, expired {swept.expired}")
        return not swept.messages and not swept.limited


class Call(Actor):
    """A call of a function, which is repeated until it has succeeded."""

    def __init__(
        self, world: World, name: str, action: Callable[[Call], bool], *, late: bool = False
    ) -> None:
        super().__init__(world, name)
        self.late = late
        self.done = False
        self._action = action

    def act(self) -> None:
        """Try."""
        self.world.note(self.name, "is called")
        try:
            self.done = self._action(self)
        except TransientError:
            return

    def die(self) -> None:
        """The event comes again."""
