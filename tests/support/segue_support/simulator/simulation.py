"""One simulated history: decides, from a seed, which actor runs next and what disturbs it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from segue.maintenance.erasure import Eraser
from segue.model.controls import resume_jobs
from segue.model.transitions import FORGET_AFTER
from segue_support.simulator.actors import (
    GRACE_S,
    LEASE_S,
    Actors,
    Command,
    FunctionCall,
    Reconciliation,
    ScheduledSweep,
    SimulatedCollector,
    Worker,
)
from segue_support.simulator.event_player import EventPlayer
from segue_support.simulator.faults import BrokenPromise
from segue_support.simulator.promises import PromiseChecker
from segue_support.simulator.scenario import Collection, FileChange, ResumeOrder
from segue_support.simulator.world import DEADLINE_S, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue.model.queue import Envelope
    from segue_support.simulator.namespace import Namespace
    from segue_support.simulator.scenario import Scenario

T = TypeVar("T")

TICK = timedelta(seconds=0.5)  # between two actions
LONG_TICK = timedelta(seconds=5)  # while a worker is stalled
STALL_S = 2 * LEASE_S
MAX_ACTIONS = 6_000
PAUSED_ROUNDS = 5  # until what is paused is resumed although there is work
MAX_ROUNDS = 60  # sweeps until no work is left


class Simulation:
    """One history, from its scenario to the end."""

    def __init__(self, scenario: Scenario, *, keep_history: bool = False) -> None:
        self.world = World(scenario, keep_history=keep_history)
        self.world.advance = self._advance
        self._actors = Actors()
        for home, layout in zip(self.world.homes, scenario.layouts, strict=True):
            home.checker = PromiseChecker(home, LEASE_S)
            self._actors.sweeps.append(ScheduledSweep(home))
            home.workers = [Worker(home, f"w{i}", jobs) for i, jobs in enumerate(layout.teams)]
            self._actors.workers.extend(home.workers)
        self._player = EventPlayer(self.world, self._actors)
        self._script = list(scenario.events)
        self._rounds = 0

    def run(self) -> None:
        """Run until no work is left; raises ``BrokenPromise`` if a promise is not kept."""
        try:
            self._run()
        except BrokenPromise:
            raise
        except Exception as error:
            raise BrokenPromise(type(error).__name__, str(error)) from error

    def _run(self) -> None:
        while self._advance() or self._let_time_pass():
            if self.world.step > MAX_ACTIONS:
                queued = list(self.world.queue.queued.values())[:3]
                raise BrokenPromise("bounded", f"the history does not end: {queued}")
        for home in self.world.homes:
            self._clean_all(home)
        for home in self.world.homes:
            home.checker.check_end()
        if self.world.scenario.collects:
            self._collect_all()

    def _clean_all(self, home: Namespace) -> None:
        """Remove what is left of files that were erased, as the command does until nothing is."""
        world = self.world
        eraser = Eraser(
            graph=home.graph,
            ledger=home.ledger,
            artifacts=home.artifacts,
            queue=None,
            clock=world.clock,
            lost=world.is_lost,
        )
        for uri in home.checker.erased:
            eraser.clean(uri)

    def _collect_all(self) -> None:
        """Collect garbage once no work is left, as long after it as it takes."""
        world = self.world
        world.now += FORGET_AFTER
        world.stop_faults()
        for home in world.homes:
            collector = SimulatedCollector(home, "last gc", Collection())
            while not collector.finished:
                collector.act()
            home.checker.check_freed()

    def _advance(self) -> bool:
        """Run one actor or event; return False if none can run."""
        world, actors = self.world, self._actors
        rng, step = world.rng, world.step
        queued = self._find_queued()
        is_stalled = False
        working = []
        for worker in actors.workers:
            if worker.paused_until > step:
                is_stalled = True
            elif not worker.busy and worker.has_work:
                working.append(worker)
        calls = [c for c in actors.calls if not c.busy and not c.late]
        runs = [run for run in actors.runs if not run.busy]
        weights = (
            4.0 * bool(queued),
            5.0 * bool(working),
            2.0 * bool(calls),
            1.5 * bool(runs),
            0.7 * self._is_next_event_due(),
        )
        total = sum(weights)
        if not total:
            return False
        world.step += 1
        world.now += LONG_TICK if is_stalled else TICK
        if rng.random() < 0.03:
            self._disturb()
            return True
        r = rng.random() * total
        if (r := r - weights[0]) < 0:
            self._deliver(queued)
        elif (r := r - weights[1]) < 0:
            worker = rng.choice(working)
            worker.perform(worker.act)
        elif (r := r - weights[2]) < 0:
            self._run_call(rng.choice(calls))
        elif r - weights[3] < 0:
            self._continue(rng.choice(runs))
        else:
            self._player.play(self._script.pop(0))
        return True

    def _is_next_event_due(self) -> bool:
        """Whether the next event may happen: a known file may change within a call, too."""
        if not self._script or not self.world.depth:
            return bool(self._script)
        event = self._script[0]
        if not isinstance(event, FileChange):
            return False
        return self.world.build_uri(event.file) in self.world.generations

    def _find_queued(self) -> dict[str, Envelope]:
        """Return the messages that somebody serves: not those of a pipeline that was removed."""
        queue = self.world.queue
        queued = queue.queued
        if not queued or not self.world.scenario.deployments:
            return queued
        read = {name for worker in self._actors.workers for name in worker.subscriptions}
        return {i: one for i, one in queued.items() if queue.find_subscription(i) in read}

    def _deliver(self, queued: dict[str, Envelope]) -> None:
        """Deliver a random message to a worker that reads its subscription, if one is free."""
        world = self.world
        if world.draw_fault("duplicates", 0.03):
            queued = world.queue.hidden or queued  # while a worker still has it
        message_id = world.rng.choice(list(queued))
        subscription = world.queue.find_subscription(message_id)
        free = [
            w
            for w in self._actors.workers
            if subscription in w.subscriptions
            and not w.busy
            and w.paused_until <= world.step
            and w.engine.room
        ]
        if free:
            worker = free[0] if len(free) == 1 else world.rng.choice(free)
            worker.perform(lambda: worker.receive(message_id))

    def _run_call(self, call: FunctionCall) -> None:
        call.perform(call.act)
        if call.done and not self.world.draw_fault("duplicates", 0.2):
            self._actors.calls.remove(call)

    def _continue(self, run: Command) -> None:
        run.perform(run.act)
        if run.finished:
            self._actors.runs.remove(run)

    def _disturb(self) -> None:
        """Run a sweep, stall, kill or stop workers, or lose an artifact."""
        world, actors, rng = self.world, self._actors, self.world.rng
        r = rng.random()
        idle = [w for w in actors.workers if not w.busy]
        if r < 0.35:
            sweep = self._choose(actors.sweeps)
            if not sweep.busy:
                sweep.perform(sweep.act)
        elif r < 0.45:
            self._lose_artifact()
        elif r < 0.7:
            self._stall(idle)
        elif idle and world.draw_fault("crashes", 1.0):
            worker = rng.choice(idle)
            world.note(worker.name, "crashes")
            worker.die()
        elif idle and world.faults_left["stalls"]:
            worker = rng.choice(idle)
            world.note(worker.name, "is stopped")
            worker.stop()

    def _stall(self, idle: list[Worker]) -> None:
        world, rng = self.world, self.world.rng
        if not world.draw_fault("stalls", 1.0):
            return
        if idle and rng.random() < 0.6:
            worker = rng.choice(idle)
            worker.paused_until = world.step + rng.randint(10, 60)
            world.note(worker.name, "stalls")
        else:
            world.now += timedelta(seconds=STALL_S)
            world.note("all", "stall")

    def _lose_artifact(self) -> None:
        world = self.world
        home = self._choose(world.homes)
        names = [name for name in home.written if home.artifacts.has(name)]
        if names and world.draw_fault("losses", 1.0):
            name = world.rng.choice(names)
            world.note("outside", f"{home.artifacts.uri(name)} is lost")
            home.artifacts.delete(name)
            home.checker.record_loss(name)

    def _choose(self, some: Sequence[T]) -> T:
        """Choose one at random; where there is only one, nothing is drawn."""
        return some[0] if len(some) == 1 else self.world.rng.choice(some)

    def _let_time_pass(self) -> bool:
        """Release late events, or sweep after all deadlines; return False if no work is left."""
        world, actors = self.world, self._actors
        if self._script:
            self._player.play(self._script.pop(0))
            return True
        for worker in actors.workers:
            worker.paused_until = 0
            if worker.graph is not worker.home.graph:
                worker.stop()
        if late := [call for call in actors.calls if call.late]:
            for call in late:
                call.late = False
            return True
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            left = [home.ledger.records for home in world.homes]
            raise BrokenPromise("bounded", f"work stays pending: {left}")
        world.step += 1
        step = world.step
        most_s = 2 * world.scenario.clock_error_s
        world.now += timedelta(seconds=LEASE_S + GRACE_S + DEADLINE_S + most_s)
        world.is_quiet = True
        quiet = [self._sweep(sweep) for sweep in actors.sweeps]
        world.is_quiet = False
        busy = (
            any(self._is_queue_used(home) for home in world.homes)
            or any(worker.has_work for worker in actors.workers)
            or actors.calls
            or actors.runs
            or self._script
        )
        if busy or not all(quiet) or world.step != step:
            # What waits for a paused job of another namespace is asked for again and again.
            if self._rounds % PAUSED_ROUNDS == 0:
                self._resume()
            return True
        return (world.folder is not None and self._reconcile()) or self._resume(is_quiet=True)

    def _resume(self, *, is_quiet: bool = False) -> bool:
        """Resume what is paused, at last; return whether anything was."""
        world = self.world
        paused = [n for n, home in enumerate(world.homes) if home.paused_since]
        for number in paused:
            home = world.homes[number]
            if is_quiet:
                home.checker.check_unpaused()
            if world.rng.random() < 0.3:  # the command is killed as soon as it can be
                world.note("outside", f"resumes {home.name}, and no more")
                home.change_controls(lambda found: resume_jobs(found, ()))
            else:
                self._player.play(ResumeOrder(namespace=number))
        return bool(paused)

    def _sweep(self, sweep: ScheduledSweep) -> bool:
        """Sweep the whole ledger; return whether there was nothing to do."""
        sweep.start()  # from the first page, wherever the limit had stopped it
        quiet: list[bool] = []
        sweep.perform(lambda: quiet.append(sweep.run(limit=1000)))
        return quiet == [True]

    def _is_queue_used(self, home: Namespace) -> bool:
        """Whether a message waits for a namespace as it is deployed."""
        own = home.list_subscriptions(home.graph, None)
        return any((self.world.queue.measure_depth(own) or {}).values())

    def _reconcile(self) -> bool:
        """Look at the files that nobody may have looked at after their last change."""
        doubtful = [home for home in self.world.homes if home.is_in_doubt]
        for home in doubtful:
            home.is_in_doubt = False
            reconciliation = Reconciliation(home, "reconcile")
            reconciliation.perform(reconciliation.act)
        return bool(doubtful)
