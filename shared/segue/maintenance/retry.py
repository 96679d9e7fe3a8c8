"""Resets failures on request; the next backfill or message tries the jobs again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice

from segue.clock import Clock, utc_now
from segue.model.graph import Graph
from segue.model.ledger import Change, Ledger, Transition
from segue.model.message import Message
from segue.model.queue import Envelope, Lane, Queue, message_to_envelope
from segue.model.record import Record, State
from segue.model.transitions import add_pending, requeue
from segue.reports.failures import find_records_by_state

BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySelection:
    """Selects what to retry: failed jobs (of some kinds), and the jobs that they block."""

    jobs: tuple[str, ...]
    kinds: frozenset[str] = frozenset()  # none: all
    prefix: str = ""

    def find_jobs(self, record: Record) -> tuple[str, ...]:
        """Return the jobs of one file to retry.

        A selected job that is blocked adds the failed job above it, without which it cannot run.
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
        if not self.kinds:  # blocked by a job that no longer fails
            failing = {job for job, e in record.jobs.items() if e.state is State.FAILED}
            again |= {job for job in self.jobs if job in causes and causes[job] not in failing}
        return tuple(sorted(again))


@dataclass(slots=True, kw_only=True)
class RetryCounts:
    """The number of files and jobs to retry."""

    files: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # job → files
    blocked: Counter[str] = field(default_factory=Counter)

    @property
    def jobs(self) -> int:
        """All jobs of all files."""
        return self.failed.total() + self.blocked.total()

    def add(self, record: Record, jobs: Collection[str]) -> None:
        """Count one file, by its record before the retry."""
        self.files += bool(jobs)
        for job in jobs:
            failed = record.jobs[job].state is State.FAILED
            (self.failed if failed else self.blocked)[job] += 1

    def merge(self, other: RetryCounts) -> None:
        """Add another count to this one."""
        self.files += other.files
        self.failed += other.failed
        self.blocked += other.blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRetry:
    """Requeues the selected jobs in the ledger and, with a queue, notifies the pipelines."""

    graph: Graph
    ledger: Ledger
    selection: RetrySelection
    queue: Queue | None = None
    clock: Clock = utc_now

    def count(self) -> RetryCounts:
        """Count the selected jobs without changing them."""
        total = RetryCounts()
        for records in self._read_batches():
            for record in records:
                total.add(record, self.selection.find_jobs(record))
        return total

    def run(self) -> RetryCounts:
        """Reset the failures and publish messages.

        The targets are first recorded as pending in the ledger: if the process dies before it
        publishes, the sweep does.
        """
        total = RetryCounts()
        for records in self._read_batches():
            changes = [Change(uri=r.uri, transition=self._build_transition()) for r in records]
            envelopes: list[Envelope] = []
            for changed in self.ledger.change(changes):
                counted, messages = changed.answer
                total.merge(counted)
                envelopes += [message_to_envelope(message) for message in messages]
            if self.queue is not None and envelopes:
                self.queue.publish(envelopes)
        return total

    def _read_batches(self) -> Iterator[list[Record]]:
        selection = self.selection
        found = find_records_by_state(
            self.ledger, selection.jobs, (State.FAILED, State.BLOCKED), selection.prefix
        )
        while batch := list(islice(found, BATCH)):
            yield batch

    def _build_transition(self) -> Transition[tuple[RetryCounts, list[Message]]]:
        """Build the transition that selects and requeues jobs on the record as it is written."""

        def transition(
            found: Record | None,
        ) -> tuple[Record | None, tuple[RetryCounts, list[Message]]]:
            counted = RetryCounts()
            if found is None:
                return None, (counted, [])
            jobs = self.selection.find_jobs(found)
            counted.add(found, jobs)
            record, _ = requeue(found, jobs)
            if record is None or self.queue is None:
                return record, (counted, [])
            return self._add_pending(record, jobs, counted)

        return transition

    def _add_pending(
        self, record: Record, jobs: tuple[str, ...], counted: RetryCounts
    ) -> tuple[Record, tuple[RetryCounts, list[Message]]]:
        """Add the jobs as pending targets of the topmost ones, and return messages to those."""
        known = tuple(job for job in self.graph.jobs if job in jobs)
        top = [job for job in known if not self.graph.find_ancestors(job) & set(known)]
        messages = []
        for job in top:
            targets = tuple(t for t in known if self.graph.is_on_line(job, (t,)))
            record = add_pending(record, self.graph, job, targets, self.clock())
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
