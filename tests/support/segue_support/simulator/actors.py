"""The actors of a history: streaming workers, backfills, the sweep, and calls of functions.

Each is a separate process, which may die at any call of a port and is then started again.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Self
from unittest.mock import patch

from segue.errors import ConfigurationError, Contended, DiskFull, TransientError, Unavailable
from segue.execution import engine, reply
from segue.execution.foreign import ForeignLedgers
from segue.execution.leases import release_leases
from segue.execution.reply import Reply
from segue.execution.work import ReceivedMessage, Run
from segue.ingest.observation import observe
from segue.ingest.sweep import Sweeper
from segue.maintenance import garbage
from segue.maintenance.garbage import GarbageReason
from segue.maintenance.reconcile import DiscrepancyFinder, ListedFile, pair_by_uri, repair
from segue.model.controls import resume_jobs
from segue.model.failure_limit import FailureLimit
from segue.model.outcome import Outcome, Status
from segue.model.queue import ReceivedEnvelope, parse_subscription
from segue_cli.commands import resume
from segue_pipelines.run_guard import RunGuard
from segue_support.simulator.faults import BrokenPromise, Killed
from segue_support.simulator.faulty_ports import FaultyLedger, FaultyQueue, FaultyStore
from segue_support.simulator.lines import expect_arrival
from segue_support.simulator.namespace import parse_placed
from segue_support.simulator.scenario import NAMES
from segue_support.simulator.simulated_pool import SimulatedPool

if TYPE_CHECKING:
    from datetime import datetime

    from segue.model.graph import Graph
    from segue.model.media_file import MediaFile
    from segue.model.record import Lease
    from segue_support.simulator.namespace import Namespace
    from segue_support.simulator.scenario import BackfillStart, Collection

LEASE_S = 60.0
GRACE_S = 90.0


class Actor:
    """Acts in steps; other actors may run between two steps, and before each call."""

    def __init__(self, home: Namespace, name: str) -> None:
        self.home = home
        self.world = home.world
        self.checker = home.checker
        self.name = name
        self.graph: Graph = home.graph
        self.clock_error = self.world.draw_clock_error()
        self.busy = False
        self.serves: tuple[str, ...] = ()  # the pipelines of a worker
        self.sweeps = False  # whether it publishes messages for jobs that others have lost
        self.repeats = False  # whether it reopens results, and may leave that unfinished
        self.retries = False  # whether it reopens failures
        self.collects = False  # whether it removes garbage
        self.pinned: frozenset[str] = frozenset()  # what others are locked to
        self.step_began_at: datetime | None = None  # of an engine
        self.begun: set[str] = set()  # the URIs of which an engine has claimed jobs
        self.seen: dict[
            str, str
        ] = {}  # by URI: the version in the last record that it wrote, if it is alive
        self.ledger = FaultyLedger(self)
        self.queue = FaultyQueue(self)
        self.artifacts = FaultyStore(self, home.artifacts)

    def clock(self) -> datetime:
        """Return the time by this process's own clock."""
        return self.world.now + self.clock_error

    def connect_foreign(self) -> ForeignLedgers | None:
        """Return the ledgers of the namespaces above; None: there are none."""
        if not self.graph.references:
            return None
        return ForeignLedgers(self.graph, self._connect_ledger)

    def _connect_ledger(self, _url: str, namespace: str) -> FaultyLedger:
        return FaultyLedger(self, self.world.find_home(namespace))

    def open_source(self, _location: str) -> FaultyStore:
        """Return the store in which the files are."""
        return FaultyStore(self, self.world.source)

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

    def __init__(self, home: Namespace, role: str) -> None:
        super().__init__(home, role)
        self.role = role if home is self.world.homes[0] else f"{home.name}-{role}"
        self.starts = 0
        self.abandoned: set[str] = set()  # owners that this process knows to be gone
        self.last_step_at: datetime | None = None  # when a worker's last successful step began

    def start_process(self) -> None:
        """Continue as a new process with a new name."""
        self.starts += 1
        self.graph = self.home.graph
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

    def __init__(self, home: Namespace, role: str, jobs: tuple[str, ...]) -> None:
        super().__init__(home, role)
        self.jobs = jobs
        self.paused_until = 0  # a step of the world
        self.start()

    def start(self) -> None:
        """Start with nothing in memory."""
        self.start_process()
        jobs = [job for job in self.jobs if job in self.graph.jobs]
        self.serves = self.graph.find_pipelines(jobs)
        self.subscriptions = self.home.list_subscriptions(self.graph, self.serves)
        self.pool = SimulatedPool(self)
        self.engine = engine.Engine(
            graph=self.graph,
            ledger=self.ledger,
            pool=self.pool,
            artifacts=self.artifacts,
            foreign=self.connect_foreign(),
            queue=self.home.queue,
            open_store=self.open_source,
            served=None if len(jobs) == len(self.graph.jobs) else frozenset(jobs),
            clock=self.clock,
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
        if self.world.rng.random() < 0.5:
            self.perform(self._release_leases)
        self.start()

    def _release_leases(self) -> None:
        process = self.name
        with contextlib.suppress(TransientError):
            release_leases(self.ledger, lambda lease: lease.owner.startswith(f"{process}/"))

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
        if self.unsent and (r < 0.4 or not self.engine.pending):
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
            if rng.random() < 0.3 and self.engine.room > 1:
                envelopes += self.queue.pull(self.subscriptions, limit=rng.randint(1, 3))
        except (Unavailable, KeyError):  # another worker has acknowledged it meanwhile
            return
        self.open.update((d.ack_id, d) for d in envelopes)
        if self.world.history is not None:
            for one in envelopes:
                self.world.note(
                    self.name, f"gets {one.message_id} {one.data.decode(errors='replace')}"
                )
        self.engine.add_messages(
            [
                ReceivedMessage(
                    pipeline=parse_subscription(parse_placed(d.subscription)),
                    data=d.data,
                    handle=d,
                    message_id=d.message_id,
                )
                for d in envelopes
            ]
        )

    def step(self) -> None:
        """Process messages and collect the replies."""
        self.step_began_at = now = self.world.now
        try:
            replies = self.engine.step(0.0)
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
            assert isinstance(one, Reply)
            if self.open.pop(one.received.handle.ack_id, None) is None:
                raise BrokenPromise("durable", f"{self.name} has replied twice: {one}")
            self.unsent.append(one)
            self.checker.check_reply(self, one)
            if self.world.history is not None:
                received = one.received
                self.world.note(
                    self.name,
                    f"{one.action} {received.message_id} at {received.pipeline}: "
                    f"{one.reason or ''}",
                )
        self._check_all_present()

    def _check_all_present(self) -> None:
        """Raise if a received message is neither in the engine nor replied to."""
        missing = len(self.open) - self.engine.pending
        if not 0 <= missing <= self.pool.full_disks:
            raise BrokenPromise(
                "durable",
                f"{self.name} has received {len(self.open)} messages that have no reply, "
                f"and its engine has {self.engine.pending}",
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
            reply.send(some, queue=self.queue, ledger=self.ledger)
            self.queue.acknowledge([one.received.handle for one in some])
        except (Unavailable, Contended):
            for one in some:
                if one.message is not None:
                    self.checker.messages.excuse(one.message.uri)  # it is published again
            if self.world.rng.random() < 0.25:
                self.abandon()
            return
        del self.unsent[: len(some)]

    def abandon(self) -> None:
        """Give up a bundle; the process lives on, and knows that these owners are gone."""
        self.world.note(self.name, "abandons its messages")
        self.abandoned.update(self.engine.abandon())
        if self.world.rng.random() < 0.5:
            self.give_back()
        self.open.clear()
        self.unsent.clear()
        self.pool.full_disks = 0


class SimulatedBackfill(SimulatedProcess):
    """A backfill, which is run again until it finishes."""

    def __init__(self, home: Namespace, role: str, event: BackfillStart) -> None:
        super().__init__(home, role)
        self.event = event
        self.finished = False
        self.repeats = True  # its user has to run it until it finishes
        self.steps: Iterator[list[Outcome | Reply]] = iter(())
        self.start()

    def start(self) -> None:
        """List the files again, and start an engine."""
        self.start_process()
        self.begun = set()
        self._failed_files = 0
        event = self.event
        targets = tuple(job for job in event.jobs if job in self.graph.jobs)
        files = self.world.list_files() if targets else []
        for media in files:
            self.checker.expect(
                media.uri, targets, force=event.force, retry=event.retry, graph=self.graph
            )
        backfill = engine.Engine(
            graph=self.graph,
            ledger=self.ledger,
            pool=SimulatedPool(self, processes=1),
            artifacts=self.artifacts,
            foreign=self.connect_foreign(),
            queue=self.home.queue,
            clock=self.clock,
            owner=self.new_owner,
            lost=self.is_lost,
            lease_s=LEASE_S,
        )
        run = Run(
            id=self.name,
            targets=targets,
            force=event.force,
            retry=event.retry,
            request_parents=event.asks,
        )
        limit = event.max_failures
        self.guard = RunGuard(
            run=self.name,
            controls=backfill.controls,
            limit=FailureLimit(files=limit) if limit else None,
        )
        self.steps = self._work(backfill, files, run)

    def _work(
        self, backfill: engine.Engine, files: Sequence[MediaFile], run: Run
    ) -> Iterator[list[Outcome | Reply]]:
        """Add the files, and work meanwhile; those in a folder are read first."""
        store = FaultyStore(self, self.world.source)
        for media in files:
            if self.guard.check():
                break
            if self.world.folder is None:
                backfill.add_files([media], run)
            else:
                [seen] = observe(store, self.ledger, [media], self.clock())
                # If nobody above ever sees this version, nobody tells of its end.
                self.home.is_in_doubt |= not self.home.has_catalogue
                record = seen.snapshot.record
                if seen.media is not None and seen.error is None and record is not None:
                    backfill.add_files([record.media], run, [seen.snapshot])
            if self.world.rng.random() < 0.5:
                yield self._step(backfill)
        while backfill.has_work:
            backfill.flush()
            yield self._step(backfill)

    def _step(self, backfill: engine.Engine) -> list[Outcome | Reply]:
        if self.guard.check():
            backfill.withdraw()
        self.step_began_at = self.world.now
        outcomes = backfill.step()
        if requests := backfill.take_requests():
            self.queue.publish(requests)
        return outcomes

    def die(self) -> None:
        """Start again, or finish, at random."""
        super().die()
        self.home.is_in_doubt = True
        if self.world.rng.random() < 0.5:
            self.start()
        else:
            self.finished = True

    def act(self) -> None:
        """Work one step."""
        try:
            outcomes = next(self.steps, None)
        except TransientError:
            self.home.is_in_doubt = True
            self.start()
            return
        if outcomes is None:
            self.finished = True
            self.checker.check_run_ended(self)
            return
        for outcome in outcomes:
            assert isinstance(outcome, Outcome)
            self._check(outcome)

    def _check(self, outcome: Outcome) -> None:
        """Check what a file ends with, and expect what others go on with."""
        media = outcome.media
        self.world.note(self.name, f"{media.uri}: {outcome.jobs}")
        self.checker.check_outcome(self.graph, outcome)
        self.guard.add(outcome)
        self._failed_files += Status.FAILED in outcome.jobs.values()
        if self._failed_files == self.event.max_failures:
            self.home.cancelled_since.setdefault(self.name, self.world.now)
        paused = {job for job, status in outcome.jobs.items() if status is Status.PAUSED}
        waiting = tuple(
            target
            for target in self.event.jobs
            if outcome.jobs.get(target) is Status.WAITING
            # Else the user has to run it again.
            and paused.isdisjoint(self.graph.find_ancestors(target))
            # Else nobody is asked for what is missing above.
            and (self.event.asks or not self.graph.find_foreign((target,)))
        )
        if waiting and not self.event.force:
            self.checker.expect_of_others(self, media, waiting)


class ScheduledSweep(SimulatedProcess):
    """The scheduled sweep."""

    def __init__(self, home: Namespace) -> None:
        super().__init__(home, "sweep")
        self.sweeps = True
        self.start()

    def start(self) -> None:
        """Start with the first page."""
        self.start_process()
        self.sweeper = Sweeper(
            graph=self.graph,
            ledger=self.ledger,
            queue=self.queue,
            clock=self.clock,
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


class SimulatedResume(Actor):
    """A run of the command that resumes jobs; if it is interrupted, the rest is for the sweep."""

    def __init__(self, home: Namespace, name: str, jobs: tuple[str, ...]) -> None:
        super().__init__(home, name)
        self.sweeps = True
        self.finished = False
        self._steps = self._resume(jobs)

    def act(self) -> None:
        """Resume the jobs, wait for a moment, or request something."""
        if self.graph is not self.home.graph:  # it would ask for results of before
            self.finished = True
            return
        try:
            self.finished = next(self._steps, None) is None
        except (TransientError, ConfigurationError) as error:
            self.world.note(self.name, str(error))
            self.finished = True

    def die(self) -> None:
        """End."""
        self.finished = True

    def _resume(self, jobs: tuple[str, ...]) -> Iterator[str]:
        world, home = self.world, self.home
        self.ledger.change_controls(lambda found: resume_jobs(found, jobs))
        pauses, noticed_at = home.pauses, world.now + timedelta(seconds=resume.NOTICE_S)
        while world.now < noticed_at:
            yield "waits"
        # If it runs in the midst of another step, that may not have noticed yet.
        is_noticed = not world.depth
        sweeper = Sweeper(
            graph=self.graph,
            ledger=self.ledger,
            queue=self.queue,
            clock=self.clock,
            lost=self.world.is_lost,
            grace_s=0.0,
            jobs=resume.find_below(self.graph, jobs),
        )
        is_over = False
        while not is_over:
            swept = sweeper.run(limit=2)
            world.note(self.name, f"pending {swept.pending}, expired {swept.expired}")
            is_over = not swept.limited
            yield "requested"
        if is_noticed and pauses == home.pauses:
            home.left_to_sweep.difference_update(jobs or NAMES)


class InlineExecutor:
    """Applies functions in the thread that asks for results, in their order."""

    def __init__(self, _threads: int) -> None:
        self.map = map

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


class SimulatedCollector(Actor):
    """A run of the garbage collector; it goes on with its own graph if another is deployed."""

    def __init__(self, home: Namespace, name: str, event: Collection) -> None:
        super().__init__(home, name)
        self.collects = True
        self.finished = False
        self.pinned = home.find_pins()
        self._steps = self._collect(event)

    def act(self) -> None:
        """Find or remove one thing."""
        try:
            with patch.object(garbage, "ThreadPoolExecutor", InlineExecutor):
                self.finished = next(self._steps, None) is None
        except TransientError:
            self.finished = True

    def die(self) -> None:
        """Leave the rest to the next run."""
        self.finished = True

    def _collect(self, event: Collection) -> Iterator[str]:
        collector = garbage.GarbageCollector(
            graph=self.graph,
            ledger=self.ledger,
            artifacts=self.artifacts,
            pinned=self.pinned,
            before=self.clock() - timedelta(seconds=event.older_than_s),
            clock=self.clock,
            lost=self.world.is_lost,
        )
        found = []
        for one in collector.find():
            if one.reason is not GarbageReason.UNKNOWN_FILE:
                found.append(one)
            yield "found"
        self.world.note(self.name, f"has found {len(found)}")
        yield "all found"
        for one in collector.collect(found):
            self.world.note(self.name, f"removes {one.artifact.object.name}: {one.reason}")
            yield "removed"


class Reconciliation(Actor):
    """Compares the folder with the ledger."""

    def act(self) -> None:
        """Repair what differs."""
        world, self.graph = self.world, self.home.graph
        store = FaultyStore(self, world.source)
        listed = [ListedFile(uri=media.uri, media=media) for media in world.list_files()]
        finder = DiscrepancyFinder(
            graph=self.graph, started_at=self.clock(), grace=timedelta(seconds=GRACE_S)
        )
        recorded = sorted(self.home.ledger.records.values(), key=lambda record: record.uri)
        for pair in pair_by_uri(listed, recorded):
            found = finder.find(*pair)
            if found is None:
                continue
            world.note(self.name, f"finds {found.media.uri} {found.kind}")
            expect_arrival(self.home, found.media.uri)
            self.checker.messages.excuse(found.media.uri)
            try:
                repair(
                    [found],
                    graph=self.graph,
                    catalogue=store,
                    ledger=self.ledger,
                    queue=self.queue,
                    now=self.clock(),
                )
            except TransientError:
                self.die()

    def die(self) -> None:
        """Leave the rest to the next one."""
        self.home.is_in_doubt = True


class FunctionCall(Actor):
    """A call of a function, which is repeated until it succeeds."""

    def __init__(
        self,
        home: Namespace,
        name: str,
        action: Callable[[FunctionCall], bool],
        *,
        late: bool = False,
    ) -> None:
        super().__init__(home, name)
        self.late = late
        self.done = False
        self.calls = 0
        self._action = action

    def act(self) -> None:
        """Call the function once."""
        self.graph = self.home.graph
        self.calls += 1
        self.world.note(self.name, "is called")
        try:
            self.done = self._action(self)
        except TransientError:
            self.home.is_in_doubt = True

    def die(self) -> None:
        """Leave the event to be delivered again."""
        self.home.is_in_doubt = True


Command = SimulatedBackfill | SimulatedCollector | SimulatedResume


@dataclass(frozen=True, slots=True, kw_only=True)
class Actors:
    """All actors of a history; runs and calls come and go."""

    sweeps: list[ScheduledSweep] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    runs: list[Command] = field(default_factory=list)
    calls: list[FunctionCall] = field(default_factory=list)
