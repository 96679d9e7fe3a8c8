"""Works off files: read, plan, claim, run, settle, always in batches, with every child process
busy.

One read and at most two writes a file, however many jobs its line has: the claim is a write on the
record that was just read, and settling is a write on the record that the claim left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from segue.errors import DiskFull, Kind
from segue.model.graph import Graph
from segue.model.ledger import (
    Change,
    Ledger,
    Result,
    Settled,
    Snapshot,
    arrive,
    claim,
    extend,
    settle,
    want,
)
from segue.model.media_file import MediaFile
from segue.model.outcome import Outcome, Status
from segue.model.planner import Line, Verdict, line, never
from segue.model.record import Lease, Record
from segue.worker.task import Report, Task

LEASE_S = 900.0
READ_BATCH = 256
SETTLE_BATCH = 256
SETTLE_S = 0.25  # what a killed run computed in vain is at most this, and what was under way
AHEAD_S = 2.0  # of work that is claimed before it starts
MAX_AHEAD = 1024


class Crew(Protocol):
    """What runs lines: a pool of child processes, or a stand-in for it."""

    processes: int

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take over tasks; their tickets come back in reports."""

    def collect(self, timeout_s: float) -> list[Report]:
        """Return what is finished, as soon as anything is, or nothing after a time."""


@dataclass(slots=True, kw_only=True)
class _Held:
    """A file whose line is being run."""

    media: MediaFile
    snapshot: Snapshot
    plan: Line
    results: list[Result] = field(default_factory=list)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Executor:
    """Computes what files are missing for some targets.

    ``add`` takes files and yields the outcomes that are ready meanwhile; ``drain`` yields the rest.
    """

    graph: Graph
    ledger: Ledger
    crew: Crew
    targets: tuple[str, ...]
    owner: str
    force: bool = False
    retry: bool = False
    dry_run: bool = False
    lost: Callable[[Lease], bool] = never
    clock: Callable[[], datetime] = _utc_now
    lease_s: float = LEASE_S
    _ready: deque[tuple[MediaFile, Snapshot, Record, Line]] = field(default_factory=deque)
    _running: dict[int, _Held] = field(default_factory=dict)
    _finished: list[_Held] = field(default_factory=list)
    _outcomes: deque[Outcome] = field(default_factory=deque)
    _under_way: set[str] = field(default_factory=set)
    _again: list[MediaFile] = field(default_factory=list)  # named once more meanwhile
    _ticket: int = 0
    _mean_s: float | None = None
    _settled_at: datetime | None = None
    _extended_at: datetime | None = None

    def add(self, files: Sequence[MediaFile]) -> Iterator[Outcome]:
        """Plan files, and work while there is more at hand than the children need."""
        for start in range(0, len(files), READ_BATCH):
            some = self._first_time(files[start : start + READ_BATCH])
            now = self.clock()
            snapshots = self.ledger.read([m.uri for m in some])
            for media, snapshot in zip(some, snapshots, strict=True):
                if outcome := self._look(media, snapshot, now):
                    self._outcomes.append(outcome)
            while len(self._ready) > self._room():
                self._step(0.25)
                yield from self._take()
            self._start()
            yield from self._take()

    def drain(self) -> Iterator[Outcome]:
        """Finish everything that was added."""
        while self._ready or self._running:
            self._step(0.25)
            yield from self._take()
        self._settle()
        yield from self._take()
        if self._again:
            again, self._again = self._again, []
            yield from self.add(again)
            yield from self.drain()

    def _first_time(self, files: Sequence[MediaFile]) -> list[MediaFile]:
        """Put files that are under way already aside: a list may name one twice."""
        first = []
        for media in files:
            if media.uri in self._under_way:
                self._again.append(media)
            else:
                self._under_way.add(media.uri)
                first.append(media)
        return first

    def _take(self) -> Iterator[Outcome]:
        while self._outcomes:
            outcome = self._outcomes.popleft()
            self._under_way.discard(outcome.media.uri)
            yield outcome

    def _plan(self, record: Record, now: datetime) -> Line:
        return line(
            self.graph,
            record,
            self.targets,
            now=now,
            force=self.targets if self.force else (),
            retry=self.retry,
            owner=self.owner,
            lost=self.lost,
        )

    def _look(self, media: MediaFile, snapshot: Snapshot, now: datetime) -> Outcome | None:
        """Decide, without writing, whether there is work; None if there is."""
        record, _ = arrive(snapshot.record, media, now)
        if refusal := _refusal(record, media):
            return Outcome.of_all(media, self.targets, refusal)
        plan = self._plan(record, now)
        if not self.dry_run and (plan.run or _leaves_word(plan)):
            self._ready.append((media, snapshot, record, plan))
            return None
        return Outcome.planned(media, plan)

    def _room(self) -> int:
        """How many files to have claimed: work for a moment, at least two a child."""
        least = 2 * self.crew.processes
        if self._mean_s is None:
            return least
        most = AHEAD_S * self.crew.processes / max(self._mean_s, 1e-6)
        return int(min(max(least, most), MAX_AHEAD))

    def _step(self, timeout_s: float) -> None:
        self._start()
        reports = self.crew.collect(timeout_s if self._running else 0.0)
        for report in reports:
            self._receive(report)
        now = self.clock()
        waited_s = (now - (self._settled_at or now)).total_seconds()
        self._settled_at = self._settled_at or now
        if len(self._finished) >= SETTLE_BATCH or (self._finished and waited_s >= SETTLE_S):
            self._settle()
        self._extend(now)

    def _start(self) -> None:
        """Claim as many files as there is room for, and hand them to the crew."""
        capacity = self._room()
        room = capacity - len(self._running)
        if not self._ready or room < max(
            1, capacity // 4
        ):  # a claim for each free place would be many writes
            return
        some = [self._ready.popleft() for _ in range(min(room, len(self._ready)))]
        now = self.clock()
        changes = [
            Change(
                uri=media.uri,
                known=snapshot,
                transition=self._claiming(media, snapshot.record, record, plan, now),
            )
            for media, snapshot, record, plan in some
        ]
        tasks = []
        for (media, *_), changed in zip(some, self.ledger.change(changes), strict=True):
            record, plan = changed.snapshot.record, changed.answer
            if record is None or plan is None:
                status = Status.SUPERSEDED if record is None else _refusal(record, media)
                self._outcomes.append(
                    Outcome.of_all(media, self.targets, status or Status.SUPERSEDED)
                )
            elif not plan.run:
                self._outcomes.append(Outcome.planned(media, plan))
            else:
                self._ticket += 1
                self._running[self._ticket] = _Held(
                    media=media, snapshot=changed.snapshot, plan=plan
                )
                tasks.append(self._task(self._ticket, media, record, plan))
        if tasks:
            self.crew.submit(tasks)

    def _claiming(
        self, media: MediaFile, seen: Record | None, arrived: Record, planned: Line, now: datetime
    ) -> Callable[[Record | None], tuple[Record | None, Line | None]]:
        """Arrive, plan and claim in one step, on the record as it then is.

        If that is still the one that was planned on, the plan holds.
        """

        def transition(found: Record | None) -> tuple[Record | None, Line | None]:
            record, plan = arrived, planned
            if found is not seen:
                record, _ = arrive(found, media, now)
                if _refusal(record, media):
                    return found, None
                plan = self._plan(record, now)
            for job in plan.holders:
                record = want(record, self.graph, job, self.targets, now)
            if plan.run:
                record = claim(
                    record, self.graph, plan.run, owner=self.owner, now=now, lease_s=self.lease_s
                )
            return record, plan

        return transition

    def _task(self, ticket: int, media: MediaFile, record: Record, plan: Line) -> Task:
        inputs: dict[str, str] = {}
        for job in plan.run:
            for parent in self.graph.jobs[job].parents:
                if parent not in plan.run:
                    artifact = record.jobs[parent].artifact
                    assert artifact is not None
                    inputs[parent] = artifact
        force = tuple(
            job
            for job in plan.run
            # A result that a request has put back is computed for that request, whoever does it.
            if (self.force and job in self.targets) or record.jobs[job].request is not None
        )
        return Task(ticket=ticket, media=media, run=plan.run, inputs=inputs, force=force)

    def _receive(self, report: Report) -> None:
        held = self._running[report.ticket]
        held.results += report.results
        if not report.finished:
            return
        del self._running[report.ticket]
        self._finished.append(held)
        seconds = sum(r.seconds or 0.0 for r in held.results)
        mean = seconds if self._mean_s is None else 0.95 * self._mean_s + 0.05 * seconds
        self._mean_s = mean

    def _settle(self) -> None:
        """Record what is finished."""
        some, self._finished = self._finished, []
        self._settled_at = self.clock()
        if not some:
            return
        changes = [
            Change(uri=held.media.uri, known=held.snapshot, transition=self._settling(held))
            for held in some
        ]
        full = None
        for held, changed in zip(some, self.ledger.change(changes), strict=True):
            self._outcomes.append(
                Outcome.run(held.media, held.plan, held.results, changed.answer.lost)
            )
            for result in held.results:
                if result.error is not None and result.error.kind == Kind.DISK_FULL:
                    full = result.error
        if full is not None:
            raise DiskFull(full.message)

    def _settling(self, held: _Held) -> Callable[[Record | None], tuple[Record | None, Settled]]:
        def transition(found: Record | None) -> tuple[Record | None, Settled]:
            return settle(
                found,
                generation=held.media.generation,
                owner=self.owner,
                results=held.results,
            )

        return transition

    def _extend(self, now: datetime) -> None:
        """Keep the leases of what is under way alive."""
        self._extended_at = self._extended_at or now
        if (now - self._extended_at).total_seconds() < self.lease_s / 3:
            return
        self._extended_at = now
        expires_at = now + timedelta(seconds=self.lease_s)

        def keeping(
            jobs: Collection[str],
        ) -> Callable[[Record | None], tuple[Record | None, bool]]:
            return lambda found: extend(found, owner=self.owner, jobs=jobs, expires_at=expires_at)

        held = list(self._running.values()) + self._finished
        changes = [
            Change(uri=h.media.uri, known=h.snapshot, transition=keeping(h.plan.run)) for h in held
        ]
        for one, changed in zip(held, self.ledger.change(changes), strict=True):
            one.snapshot = changed.snapshot


def _refusal(record: Record, media: MediaFile) -> Status | None:
    """Why nothing can be done for a version of a file."""
    if record.generation != media.generation:
        return Status.SUPERSEDED
    return Status.DELETED if record.deleted_at is not None else None


def _leaves_word(plan: Line) -> bool:
    """Whether others hold what the targets wait for, so that the targets must be left with them."""
    return any(v is Verdict.WAITING for v in plan.verdicts.values())
