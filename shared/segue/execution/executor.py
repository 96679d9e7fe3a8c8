"""The executor plans, claims, runs and settles files in batches, and keeps every child busy.

A file costs one read and at most two writes, however many jobs its line has: the claim writes to
the record that was just read, and settling writes to the record that the claim left.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from segue.clock import Clock, utc_now
from segue.errors import DiskFull, Kind
from segue.log import Action, log_event
from segue.model.graph import Graph
from segue.model.ledger import Change, Ledger, Snapshot
from segue.model.media_file import MediaFile
from segue.model.object_store import ObjectStore
from segue.model.outcome import FirstFailures, Outcome, Status
from segue.model.planner import Line, Verdict, assume_alive, plan_line
from segue.model.record import Lease, Record, State
from segue.model.transitions import (
    Result,
    add_pending,
    arrive,
    claim,
    extend_leases,
    settle,
)
from segue.worker.protocol import Report, Task

LEASE_S = 900.0
READ_BATCH = 256
SETTLE_BATCH = 256
SETTLE_S = 0.25  # a killed run loses the results of at most this time, and what was running
AHEAD_S = 2.0  # of work that is claimed before it starts
MAX_AHEAD = 1024


class WorkerPool(Protocol):
    """Runs tasks: a pool of child processes, or a fake."""

    processes: int

    def submit(self, tasks: Sequence[Task]) -> None:
        """Accept tasks; their ids come back in reports."""

    def collect(self, timeout_s: float) -> list[Report]:
        """Return reports as soon as there are any, or none after the timeout."""


@dataclass(slots=True, kw_only=True)
class _RunningFile:
    """A file whose line is running."""

    media: MediaFile
    snapshot: Snapshot
    plan: Line
    results: list[Result] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Executor:
    """Computes the results that files are missing for some targets.

    ``add`` accepts files and yields the outcomes that are ready meanwhile; ``drain`` yields the
    rest. Both raise ``TooManyFailures`` once as many files as are allowed have failed in a job that
    has not succeeded for any file.
    """

    graph: Graph
    ledger: Ledger
    pool: WorkerPool
    artifacts: ObjectStore
    targets: tuple[str, ...]
    owner: str
    force: bool = False
    retry: bool = False
    dry_run: bool = False
    lost: Callable[[Lease], bool] = assume_alive
    max_first_failures: int | None = None  # None: go on, however many files fail at the start
    clock: Clock = utc_now
    lease_s: float = LEASE_S
    _ready: deque[tuple[MediaFile, Snapshot]] = field(default_factory=deque)
    _running: dict[int, _RunningFile] = field(default_factory=dict)
    _finished: list[_RunningFile] = field(default_factory=list)
    _outcomes: deque[Outcome] = field(default_factory=deque)
    _under_way: set[str] = field(default_factory=set)
    # Results of files that were planned again, by URI.
    _earlier: dict[str, list[Result]] = field(default_factory=dict)
    _repeated: list[MediaFile] = field(default_factory=list)  # added again while under way
    _last_task_id: int = 0
    _mean_s: float | None = None
    _settled_at: datetime | None = None
    _first_failures: FirstFailures = field(default_factory=FirstFailures)
    _extended_at: datetime | None = None

    def add(self, files: Sequence[MediaFile]) -> Iterator[Outcome]:
        """Plan files, and work while more files are ready than the children need."""
        for start in range(0, len(files), READ_BATCH):
            batch = self._set_aside_repeated(files[start : start + READ_BATCH])
            now = self.clock()
            snapshots = self.ledger.read([m.uri for m in batch])
            for media, snapshot in zip(batch, snapshots, strict=True):
                if outcome := self._decide(media, snapshot, now):
                    self._outcomes.append(outcome)
            while len(self._ready) > self._capacity():
                self._work(0.25)
                yield from self._pop_outcomes()
            self._start()
            yield from self._pop_outcomes()

    def drain(self) -> Iterator[Outcome]:
        """Finish everything that was added."""
        while self._ready or self._running or self._finished:
            if self._ready or self._running:
                self._work(0.25)
            else:
                self._settle()
            yield from self._pop_outcomes()
        self.ledger.sync()
        if self._repeated:
            again, self._repeated = self._repeated, []
            yield from self.add(again)
            yield from self.drain()

    def _set_aside_repeated(self, files: Sequence[MediaFile]) -> list[MediaFile]:
        """Set aside files that are already under way (a list may repeat some); return the rest."""
        first = []
        for media in files:
            if media.uri in self._under_way:
                self._repeated.append(media)
            else:
                self._under_way.add(media.uri)
                first.append(media)
        return first

    def _pop_outcomes(self) -> Iterator[Outcome]:
        while self._outcomes:
            outcome = self._outcomes.popleft()
            self._under_way.discard(outcome.media.uri)
            self._first_failures.add(outcome)
            yield outcome
        if self.max_first_failures is not None:
            self._first_failures.check(self.max_first_failures)

    def _plan(self, record: Record, now: datetime) -> Line:
        finished = {result.job for result in self._earlier.get(record.uri, ())}
        return plan_line(
            self.graph,
            record,
            self.targets,
            now=now,
            force=tuple(t for t in self.targets if t not in finished) if self.force else (),
            retry=self.retry,
            retry_transient=True,
            owner=self.owner,
            lost=self.lost,
        )

    def _decide(self, media: MediaFile, snapshot: Snapshot, now: datetime) -> Outcome | None:
        """Decide, without a write, on the outcome; return None if the file needs work."""
        if snapshot.damage is not None and not self.force:
            return Outcome.from_failure(
                media, self.targets, kind=Kind.DAMAGED_RECORD, message=snapshot.damage
            )
        record, _ = arrive(snapshot.record, media, now)
        if status := _check_version(record, media):
            return Outcome.from_status(media, self.targets, status)
        plan = self._plan(record, now)
        if not self.dry_run and (plan.run or _has_waiting(plan)):
            self._ready.append((media, snapshot))
            return None
        return Outcome.from_plan(media, plan)

    def _capacity(self) -> int:
        """Return how many files to claim at once."""
        return count_ahead(self.pool.processes, self._mean_s, AHEAD_S, MAX_AHEAD)

    def _work(self, timeout_s: float) -> None:
        self._start()
        reports = self.pool.collect(timeout_s if self._running else 0.0)
        for report in reports:
            self._receive(report)
        now = self.clock()
        waited_s = (now - (self._settled_at or now)).total_seconds()
        self._settled_at = self._settled_at or now
        if len(self._finished) >= SETTLE_BATCH or (self._finished and waited_s >= SETTLE_S):
            self._settle()
        self._extend(now)

    def _start(self) -> None:
        """Claim as many files as there is room for, and submit them to the pool."""
        capacity = self._capacity()
        room = capacity - len(self._running)
        # A claim for each slot that becomes free would cost many writes.
        if not self._ready or room < max(1, capacity // 4):
            return
        batch = [self._ready.popleft() for _ in range(min(room, len(self._ready)))]
        now = self.clock()
        changes = [
            Change(uri=media.uri, known=snapshot, transition=self._build_claim(media, now))
            for media, snapshot in batch
        ]
        tasks = []
        for (media, _), changed in zip(batch, self.ledger.change(changes), strict=True):
            record, plan = changed.snapshot.record, changed.answer
            if record is None or plan is None:
                status = Status.SUPERSEDED if record is None else _check_version(record, media)
                self._outcomes.append(
                    Outcome.from_status(media, self.targets, status or Status.SUPERSEDED)
                )
            elif not plan.run:
                self._outcomes.append(Outcome.from_plan(media, plan))
            else:
                self._last_task_id += 1
                self._running[self._last_task_id] = _RunningFile(
                    media=media, snapshot=changed.snapshot, plan=plan
                )
                tasks.append(self._build_task(self._last_task_id, media, record, plan))
        if tasks:
            self.pool.submit(tasks)

    def _build_claim(
        self, media: MediaFile, now: datetime
    ) -> Callable[[Record | None], tuple[Record | None, Line | None]]:
        """Build the transition that records the arrival, plans and claims in one step."""

        def transition(found: Record | None) -> tuple[Record | None, Line | None]:
            record, _ = arrive(found, media, now)
            if _check_version(record, media):
                return found, None
            plan = self._plan(record, now)
            for job in plan.holders:
                record = add_pending(record, self.graph, job, self.targets, now)
            if plan.run:
                record = claim(
                    record, self.graph, plan.run, owner=self.owner, now=now, lease_s=self.lease_s
                )
            return record, plan

        return transition

    def _build_task(self, task_id: int, media: MediaFile, record: Record, plan: Line) -> Task:
        above = {p for job in plan.run for p in self.graph.jobs[job].parents}
        return build_task(
            task_id, record, plan.run, above.difference(plan.run), media=media, owner=self.owner
        )

    def _receive(self, report: Report) -> None:
        file = self._running[report.task_id]
        file.results += report.results
        if not report.finished:
            return
        del self._running[report.task_id]
        self._finished.append(file)
        seconds = sum(r.seconds or 0.0 for r in file.results)
        mean = seconds if self._mean_s is None else 0.95 * self._mean_s + 0.05 * seconds
        self._mean_s = mean

    def _settle(self) -> None:
        """Record the results of finished files, once their artifacts are on the disk."""
        batch, self._finished = self._finished, []
        self._settled_at = self.clock()
        if not batch:
            return
        if any(result.state is State.DONE for file in batch for result in file.results):
            self.artifacts.sync()
        changes = [
            Change(
                uri=file.media.uri,
                known=file.snapshot,
                transition=functools.partial(
                    settle,
                    generation=file.media.generation,
                    owner=self.owner,
                    results=file.results,
                    claimed=file.snapshot.record,
                ),
            )
            for file in batch
        ]
        full = None
        for file, changed in zip(batch, self.ledger.change(changes), strict=True):
            lost = changed.answer.lost
            if any(r.damaged is not None and r.job not in lost for r in file.results):
                self._add_again(file, changed.snapshot)
                continue
            results = [*self._earlier.pop(file.media.uri, ()), *file.results]
            self._outcomes.append(Outcome.from_results(file.media, file.plan, results, lost))
            for result in file.results:
                if result.error is not None and result.error.kind == Kind.DISK_FULL:
                    full = result.error
        if full is not None:
            raise DiskFull(full.message)

    def _add_again(self, file: _RunningFile, snapshot: Snapshot) -> None:
        """Plan a file again, as the artifact of a parent has to be computed again."""
        for result in file.results:
            if result.damaged is not None and result.error is not None:
                log_event(
                    Action.RECOMPUTED,
                    severity="WARNING",
                    file=file.media.uri,
                    job=result.damaged,
                    error=result.error.message,
                )
        finished = [r for r in file.results if r.state is not State.QUEUED]
        self._earlier.setdefault(file.media.uri, []).extend(finished)
        self._ready.append((file.media, snapshot))

    def _extend(self, now: datetime) -> None:
        """Extend the leases of all files under way, once a third of their time has passed."""
        self._extended_at = self._extended_at or now
        if (now - self._extended_at).total_seconds() < self.lease_s / 3:
            return
        self._extended_at = now
        extend = functools.partial(
            extend_leases, owner=self.owner, expires_at=now + timedelta(seconds=self.lease_s)
        )
        files = list(self._running.values()) + self._finished
        changes = [
            Change(
                uri=file.media.uri,
                known=file.snapshot,
                transition=functools.partial(extend, jobs=file.plan.run),
            )
            for file in files
        ]
        for file, changed in zip(files, self.ledger.change(changes), strict=True):
            file.snapshot = changed.snapshot


def build_task(
    task_id: int,
    record: Record,
    run: Sequence[str],
    inputs: Iterable[str],
    *,
    media: MediaFile,
    owner: str,
) -> Task:
    """Build the task of some claimed jobs; ``inputs`` are the parents whose results they read."""
    entries = {parent: record.jobs[parent] for parent in inputs}
    return Task(
        task_id=task_id,
        media=media,
        run=tuple(run),
        inputs={p: e.artifact for p, e in entries.items() if e.artifact is not None},
        checksums={p: e.checksum for p, e in entries.items() if e.checksum is not None},
        owner=owner,
    )


def count_ahead(processes: int, mean_s: float | None, ahead_s: float, most: int) -> int:
    """Return how many to claim at once: work for ``ahead_s``, at least two per child."""
    least = 2 * processes
    if mean_s is None:
        return least
    return int(min(max(least, ahead_s * processes / max(mean_s, 1e-6)), most))


def _check_version(record: Record, media: MediaFile) -> Status | None:
    """Return the status of a version that can no longer be processed, or None if it can be."""
    if record.generation != media.generation:
        return Status.SUPERSEDED
    return Status.DELETED if record.deleted_at is not None else None


def _has_waiting(plan: Line) -> bool:
    """Return whether targets wait for jobs that others hold, and must be recorded as pending."""
    return any(v is Verdict.WAITING for v in plan.verdicts.values())
