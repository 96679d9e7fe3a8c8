"""Failures are forgotten on request, so that the next backfill tries again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice

from pipelines.failures import records_in
from shared.ledger import Change, Ledger, Transition, requeue
from shared.record import Record, State

BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to try again: jobs that failed (in some ways), and what they block."""

    jobs: tuple[str, ...]
    kinds: frozenset[str] = frozenset()  # none: all
    prefix: str = ""

    def of(self, record: Record) -> tuple[str, ...]:
        """The jobs of one file that are tried again.

        A job that is chosen and blocked brings the failed job above it along, or it could not run.
        """
        if record.deleted_at is not None:
            return ()
        failed = {
            job
            for job, entry in record.jobs.items()
            if entry.state is State.FAILED
            and (not self.kinds or (entry.error is not None and entry.error.kind in self.kinds))
        }
        causes = {
            job: entry.error.type if entry.error is not None else ""
            for job, entry in record.jobs.items()
            if entry.state is State.BLOCKED
        }
        again = {job for job in self.jobs if job in failed}
        again |= {causes[job] for job in self.jobs if causes.get(job) in failed}
        again |= {job for job, cause in causes.items() if cause in again}
        if not self.kinds:  # blocked by what has been mended since
            standing = {job for job, e in record.jobs.items() if e.state is State.FAILED}
            again |= {job for job in self.jobs if job in causes and causes[job] not in standing}
        return tuple(sorted(again))


@dataclass(slots=True, kw_only=True)
class Replayed:
    """How many jobs of how many files are tried again."""

    files: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # job → files
    blocked: Counter[str] = field(default_factory=Counter)

    @property
    def jobs(self) -> int:
        """All jobs of all files."""
        return self.failed.total() + self.blocked.total()

    def add(self, record: Record, jobs: Collection[str]) -> None:
        """Count one file, by its record from before."""
        self.files += bool(jobs)
        for job in jobs:
            failed = record.jobs[job].state is State.FAILED
            (self.failed if failed else self.blocked)[job] += 1

    def merge(self, other: Replayed) -> None:
        """Add another count to this one."""
        self.files += other.files
        self.failed += other.failed
        self.blocked += other.blocked


def replay(ledger: Ledger, choice: Choice, *, dry_run: bool) -> Replayed:
    """Queue again what is chosen, or only count it."""
    total = Replayed()
    for records in _batches(ledger, choice):
        if dry_run:
            for record in records:
                total.add(record, choice.of(record))
            continue
        changes = [Change(uri=r.uri, transition=_again(choice)) for r in records]
        for changed in ledger.change(changes):
            total.merge(changed.answer)
    return total


def _batches(ledger: Ledger, choice: Choice) -> Iterator[list[Record]]:
    found = records_in(ledger, choice.jobs, (State.FAILED, State.BLOCKED), choice.prefix)
    while batch := list(islice(found, BATCH)):
        yield batch


def _again(choice: Choice) -> Transition[Replayed]:
    """Choose on the record as it is when it is written, and answer with what was chosen."""

    def transition(found: Record | None) -> tuple[Record | None, Replayed]:
        counted = Replayed()
        if found is None:
            return None, counted
        jobs = choice.of(found)
        counted.add(found, jobs)
        return requeue(found, jobs)[0], counted

    return transition
