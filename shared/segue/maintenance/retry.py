"""Failures are forgotten on request, so that the next backfill or message tries again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from segue.model.graph import Graph
from segue.model.ledger import Change, Ledger, Transition, requeue, want
from segue.model.message import Message
from segue.model.queue import Lane, Letter, Queue, letter
from segue.model.record import Record, State
from segue.reports.failures import records_in

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


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Queues again what is chosen; with a queue, the streaming pipelines are told as well."""

    graph: Graph
    ledger: Ledger
    choice: Choice
    queue: Queue | None = None
    clock: Callable[[], datetime] = _utc_now

    def count(self) -> Replayed:
        """Only count."""
        total = Replayed()
        for records in self._batches():
            for record in records:
                total.add(record, self.choice.of(record))
        return total

    def run(self) -> Replayed:
        """Forget the failures.

        What is to be published is first left in the ledger, where the sweeper finds it if it does
        not come to that.
        """
        total = Replayed()
        for records in self._batches():
            changes = [Change(uri=r.uri, transition=self._again()) for r in records]
            letters: list[Letter] = []
            for changed in self.ledger.change(changes):
                counted, told = changed.answer
                total.merge(counted)
                letters += [letter(message) for message in told]
            if self.queue is not None and letters:
                self.queue.publish(letters)
        return total

    def _batches(self) -> Iterator[list[Record]]:
        choice = self.choice
        found = records_in(self.ledger, choice.jobs, (State.FAILED, State.BLOCKED), choice.prefix)
        while batch := list(islice(found, BATCH)):
            yield batch

    def _again(self) -> Transition[tuple[Replayed, list[Message]]]:
        """Choose on the record as it is when it is written, and answer with what was chosen."""

        def transition(
            found: Record | None,
        ) -> tuple[Record | None, tuple[Replayed, list[Message]]]:
            counted = Replayed()
            if found is None:
                return None, (counted, [])
            jobs = self.choice.of(found)
            counted.add(found, jobs)
            record, _ = requeue(found, jobs)
            if record is None or self.queue is None:
                return record, (counted, [])
            return self._asked(record, jobs, counted)

        return transition

    def _asked(
        self, record: Record, jobs: tuple[str, ...], counted: Replayed
    ) -> tuple[Record, tuple[Replayed, list[Message]]]:
        """Leave the jobs as targets with the topmost of them, and say which messages tell those."""
        known = tuple(job for job in self.graph.jobs if job in jobs)
        top = [job for job in known if not self.graph.ancestors(job) & set(known)]
        messages = []
        for job in top:
            targets = tuple(t for t in known if self.graph.on_line(job, (t,)))
            record = want(record, self.graph, job, targets, self.clock())
            messages.append(
                Message(
                    uri=record.uri,
                    generation=record.generation,
                    job=job,
                    targets=targets,
                    lane=Lane.REQUESTS.value,
                )
            )
        return record, (counted, messages)
