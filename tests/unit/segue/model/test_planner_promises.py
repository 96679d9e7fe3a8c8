"""Messages between jobs keep the promises: complete, narrow, once.

A small world of one file: a record, a bag of messages from which any may come next, and come twice,
and workers that may die at any step. They follow `decide` and the ledger's transitions, as the real
ones do.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.model.graph import SOURCE, Graph, Job
from segue.model.media_file import MediaFile
from segue.model.message import Message
from segue.model.outcome import build_blocked_result
from segue.model.planner import (
    Ask,
    Drop,
    Forward,
    Run,
    Verdict,
    Wait,
    decide,
    plan_line,
    register_targets,
)
from segue.model.record import EVERYTHING, Entry, Failure, Lease, Record, State, evolve
from segue.model.transitions import Result, arrive, claim, clear_pending, settle

pytestmark = pytest.mark.slow

URI = "gs://b/a.wav"
LEASE_S = 60.0
OLD = "00000000001d"
NAMES = "abcdefg"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody asked for."""

    generation: int
    targets: tuple[str, ...]
    force: bool
    made_at: int


@dataclass(kw_only=True)
class World:
    """One file, and all who work on it."""

    graph: Graph
    failing: frozenset[str]
    rng: random.Random
    crashes: int  # how many are still to come
    copies: int  # how many messages will still come twice
    record: Record
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    step: int = 0
    bag: list[Message] = field(default_factory=list)
    running: list[tuple[Message | None, str, str]] = field(default_factory=list)  # job, owner
    requests: list[Request] = field(default_factory=list)
    started: Counter[tuple[int, str]] = field(default_factory=Counter)
    again: Counter[str] = field(
        default_factory=Counter
    )  # how often a job may have to be computed once more
    done_at: dict[str, int] = field(default_factory=dict)

    # --- what comes from outside ---

    def arrive(self) -> None:
        media = MediaFile(uri=URI, generation=self.record.generation + 1)
        self.record, _ = arrive(self.record, media, self.now)
        self.done_at.clear()
        for job in self.graph.children[SOURCE]:
            self.send(job, None)
        self.note(tuple(self.graph.jobs), force=False)

    def ask(self, targets: tuple[str, ...], *, force: bool) -> None:
        for target in targets:
            self.send(target, targets, force=force, request=self.request() if force else None)
        self.note(targets, force)

    def ask_from_above(self, targets: tuple[str, ...]) -> None:
        for job in self.graph.children[SOURCE]:
            if self.graph.is_on_line(job, targets):
                self.send(job, targets)
        self.note(targets, force=False)

    def ask_below(self, job: str, *, force: bool) -> None:
        self.send(job, None, force=force, request=self.request() if force else None)
        below = self.graph.find_descendants(job)
        self.note((job, *(n for n in self.graph.jobs if n in below)), force)

    def request(self) -> str:
        return f"r{len(self.requests):03}"

    def note(self, targets: tuple[str, ...], force: bool) -> None:
        if force:
            self.again.update(targets)
        self.requests.append(
            Request(
                generation=self.record.generation, targets=targets, force=force, made_at=self.step
            )
        )

    def send(
        self,
        job: str,
        targets: tuple[str, ...] | None,
        force: bool = False,
        request: str | None = None,
    ) -> None:
        self.bag.append(
            Message(
                uri=URI,
                generation=self.record.generation,
                job=job,
                targets=targets,
                force=force,
                request=request,
            )
        )

    # --- what a worker does ---

    def dies(self) -> bool:
        if self.crashes and self.rng.random() < 0.15:
            self.crashes -= 1
            return True
        return False

    def deliver(self) -> None:
        message = self.bag.pop(self.rng.randrange(len(self.bag)))
        if self.copies and self.rng.random() < 0.2:
            self.copies -= 1
            self.bag.append(message)
        decision = decide(self.graph, self.record, message, self.now)
        match decision:
            case Run():
                self.start(message)
            case Ask() | Wait():
                self.record = register_targets(self.graph, self.record, message, decision, self.now)
                if self.dies():
                    self.bag.append(message)
                elif isinstance(decision, Ask):
                    for parent in decision.parents:
                        self.pass_on(message, parent, decision.targets)
            case Forward(children):
                self.tell(message, children)
            case Drop(_, cause, children):
                if cause not in (None, message.job):
                    self.block(message, cause)
                self.tell(message, children)

    def start(self, message: Message) -> None:
        self.justify(message.job)
        self.running.append((message, message.job, self.claim(message)))
        self.started[self.record.generation, message.job] += 1

    def block(self, message: Message, cause: str) -> None:
        self.settle(
            message, message.job, self.claim(message), build_blocked_result(message.job, cause)
        )

    def claim(self, message: Message) -> str:
        owner = f"w{self.step}"
        self.record = claim(
            self.record,
            self.graph,
            [message.job],
            owner=owner,
            now=self.now,
            lease_s=LEASE_S,
            request=message.request,
        )
        return owner

    def pass_on(self, message: Message, job: str, targets: tuple[str, ...] | None) -> None:
        self.bag.append(evolve(message, job=job, targets=targets))

    def tell(self, message: Message, children: Sequence[str]) -> None:
        """Tell the children what the message says; then the target is not pending any more."""
        if self.dies():
            self.bag.append(message)
            return
        for child in children:
            self.pass_on(message, child, message.targets)
        entry = self.record.jobs.get(message.job)
        if (
            entry is not None
            and entry.pending_targets
            and message.generation == self.record.generation
        ):
            self.clear_pending(message.job, message.targets or (EVERYTHING,))

    def clear_pending(self, job: str, targets: Collection[str]) -> None:
        changed, _ = clear_pending(
            self.record, generation=self.record.generation, targets={job: targets}, now=self.now
        )
        self.record = changed or self.record

    def finish(self) -> None:
        message, job, owner = self.running.pop(self.rng.randrange(len(self.running)))
        if self.dies():
            if message is not None:
                self.again[job] += 1
                self.bag.append(message)
            return
        state = State.FAILED if job in self.failing else State.DONE
        error = Failure(kind="timeout", type="E", message="m") if job in self.failing else None
        self.settle(message, job, owner, Result(job=job, state=state, error=error))

    def settle(self, message: Message | None, job: str, owner: str, result: Result) -> None:
        """Record a result, and tell those below; without a message it is that of a backfill."""
        changed, settled = settle(
            self.record,
            generation=self.record.generation if message is None else message.generation,
            owner=owner,
            results=[result],
        )
        self.record = changed or self.record
        if not settled.lost and result.state is State.DONE:
            self.done_at[job] = self.step
        if settled.lost or self.dies():
            if message is not None:
                self.bag.append(message)  # to ask again what is to be done
            return
        if message is not None:
            for child in self.graph.children[job]:
                if self.graph.is_on_line(child, message.targets):
                    self.pass_on(message, child, message.targets)
        if job in settled.pending_targets:
            self.tell_owed(job, settled.pending_targets[job])

    def tell_owed(self, job: str, pending: tuple[str, ...]) -> None:
        targets = None if EVERYTHING in pending else pending
        for each in (job, *self.graph.children[job]):  # itself, in case an older version did it
            if self.graph.is_on_line(each, targets):
                self.send(each, targets)
        if not self.dies():
            self.clear_pending(job, pending)

    def sweep(self) -> None:
        """What is done at times: leases have expired, and pending targets are asked for again."""
        self.now += timedelta(seconds=2 * LEASE_S)
        for job, entry in self.record.jobs.items():
            if entry.pending_targets:
                self.send(
                    job, None if EVERYTHING in entry.pending_targets else entry.pending_targets
                )

    # --- what is promised ---

    def justify(self, job: str) -> None:
        """Narrow: what starts stands in the line of something that was asked for."""
        assert any(
            job
            in plan_line(
                self.graph,
                self.record,
                request.targets,
                now=self.now,
                force=force,
            ).run
            for request in self.requests
            for force in _forces(request, job)
        ), (job, self.requests, self.record)

    def advance(self) -> bool:
        """Let something happen; False if nothing can."""
        self.step += 1
        if self.crashes and self.running and self.rng.random() < 0.05:
            self.stall()
        if self.running and (not self.bag or self.rng.random() < 0.3):
            self.finish()
        elif self.bag:
            self.deliver()
        else:
            return False
        return True

    def stall(self) -> None:
        """Everybody stands still until their leases have expired, and then goes on."""
        self.crashes -= 1
        self.now += timedelta(seconds=2 * LEASE_S)
        self.again.update(job for _, job, _ in self.running)

    def live(self, most: int) -> None:
        """Go on until nothing is left to do."""
        sweeps = 0
        while self.advance() or self.owes():
            assert self.step < most, (len(self.bag), self.bag[:5])
            if not self.bag and not self.running:
                sweeps += 1
                assert sweeps < 50, self.record
                self.sweep()

    def owes(self) -> bool:
        return any(entry.pending_targets for entry in self.record.jobs.values())

    def check(self) -> None:
        for request in self.requests:
            if request.generation != self.record.generation:
                continue
            for target in request.targets:
                plan = plan_line(self.graph, self.record, [target], now=self.now)
                verdict = plan.verdicts[target]
                said = (target, request, self.record)
                if verdict is Verdict.CURRENT:
                    late = self.done_at.get(target, -1) < request.made_at
                    assert not (request.force and late), said
                else:
                    assert self.record.jobs[target].state in (State.FAILED, State.BLOCKED), said
                    again = any(
                        r.force for r in self.requests
                    )  # which may have mended what blocked
                    assert verdict in (Verdict.FAILED, Verdict.BLOCKED) or again, said
        for (generation, job), times in self.started.items():
            assert times <= 1 + self.again[job], (generation, job, times)


def _forces(request: Request, job: str) -> list[tuple[str, ...]]:
    """What of a request may still have to be forced when a job starts."""
    if not request.force:
        return [()]
    return [(), request.targets, *([(job,)] if job in request.targets else [])]


def graph_of(edges: Sequence[int]) -> Graph:
    jobs = {}
    for i, mask in enumerate(edges):
        above = [NAMES[j] for j in range(i) if mask >> j & 1]
        needs = {f"from_{p}": p for p in above} or {"media": SOURCE}
        jobs[NAMES[i]] = Job(name=NAMES[i], run="m:f", needs=needs, writes="audio/flac")
    return Graph(jobs=jobs)


START = ["none", "done", "stale", "queued", "failed", "held", "held by another version", "expired"]


def entry_of(what: str, fingerprint: str, now: datetime) -> Entry:
    def leased(owner: str, seconds: float) -> Lease:
        return Lease(owner=owner, expires_at=now + timedelta(seconds=seconds))

    made = {
        "done": (State.DONE, fingerprint, None),
        "stale": (State.DONE, OLD, None),
        "queued": (State.QUEUED, fingerprint, None),
        "failed": (State.FAILED, fingerprint, None),
        "held": (State.RUNNING, fingerprint, leased("foreign", 30)),
        "held by another version": (State.RUNNING, OLD, leased("foreign", 30)),
        "expired": (State.RUNNING, fingerprint, leased("gone", 0)),
    }
    state, print_, lease = made[what]
    return Entry(state=state, fingerprint=print_, generation=1, lease=lease)


def drawn_graph(rng: random.Random) -> Graph:
    masks = []
    for i in range(rng.randint(1, len(NAMES))):
        above = rng.randrange(2**i) & rng.randrange(2**i)  # few parents, and for most jobs one
        masks.append(above or (2 ** rng.randrange(i) if i and rng.random() < 0.7 else 0))
    return graph_of(masks)


def world_of(seed: int, *, crashes: int, copies: int, force: bool) -> World:
    """A world that is drawn from a seed, which is much faster than drawing each of its parts."""
    rng = random.Random(seed)
    graph = drawn_graph(rng)
    record = Record(uri=URI, generation=1, arrived_at=World.now)
    chances = rng.choice([[1, 0, 0, 0, 0, 0, 0, 0], [4, 6, 2, 1, 1, 2, 1, 1]])
    for name in graph.jobs:
        (what,) = rng.choices(START, chances)
        if what != "none":
            record.jobs[name] = entry_of(what, graph.fingerprints[name], World.now)
    world = World(
        graph=graph,
        failing=frozenset(n for n in graph.jobs if rng.random() < 0.1),
        rng=rng,
        crashes=crashes,
        copies=copies,
        record=record,
    )
    for name, entry in record.jobs.items():
        if entry.lease is not None and entry.lease.owner == "foreign":
            world.running.append((None, name, "foreign"))
            world.again[name] += 1
    for _ in range(rng.randint(1, 4)):
        demand(world, force=force and rng.random() < 0.5)
        for _ in range(rng.randint(0, 10)):
            world.advance()
    return world


def demand(world: World, *, force: bool) -> None:
    """Somebody asks for something, in one of the ways that there are."""
    jobs = list(world.graph.jobs)
    targets = tuple(world.rng.sample(jobs, world.rng.randint(1, min(3, len(jobs)))))
    kind = world.rng.random()
    if kind < 0.2:
        world.arrive()
    elif kind < 0.35:
        world.ask_below(targets[0], force=force)
    elif kind < 0.5:
        world.ask_from_above(targets)
    else:
        world.ask(targets, force=force)


@given(st.integers(0, 2**32))
@settings(max_examples=1000)
def test_what_was_asked_for_is_done_once_and_nothing_else(seed):
    world = world_of(seed, crashes=0, copies=0, force=False)
    world.live(most=5_000)
    world.check()


@given(st.integers(0, 2**32))
@settings(max_examples=1000)
def test_so_it_is_when_messages_come_twice_and_workers_die(seed):
    world = world_of(seed, crashes=5, copies=5, force=False)
    world.live(most=20_000)
    world.check()


@given(st.integers(0, 2**32))
@settings(max_examples=1000)
def test_so_it_is_when_results_are_forced(seed):
    world = world_of(seed, crashes=5, copies=5, force=True)
    world.live(most=20_000)
    world.check()
