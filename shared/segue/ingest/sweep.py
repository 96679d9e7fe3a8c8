"""The sweep: publish messages for unfinished work again.

Two kinds of work stay unfinished: pending targets that were never notified (the worker died before,
or a backfill finished the job), and jobs whose lease has expired. Neither is published before a
grace period has passed: a message for it may be waiting in a queue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from segue.clock import Clock, utc_now
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Change, Ledger, Query, find_pages
from segue.model.message import Message
from segue.model.queue import Lane, Queue, message_to_envelope
from segue.model.record import EVERYTHING, Entry, Lease, Record, State, evolve

GRACE_S = 900.0
LIMIT = 5_000  # messages per run
PAGE = 300


@dataclass(slots=True, kw_only=True)
class SweepResult:
    """The counts of one sweep."""

    files: int = 0  # looked at
    pending: int = 0  # messages for pending targets
    expired: int = 0  # messages for jobs whose lease has expired
    limited: bool = False  # there may be more to publish

    @property
    def messages(self) -> int:
        """The number of messages that were published, or would be in a dry run."""
        return self.pending + self.expired


@dataclass(slots=True, kw_only=True)
class Sweeper:
    """Finds unfinished work, up to a limit of messages per run, and publishes it again.

    A run continues where the limit stopped the one before.
    """

    graph: Graph
    ledger: Ledger
    queue: Queue | None  # None: a dry run
    clock: Clock = utc_now
    lost: Callable[[Lease], bool] = is_lost
    grace_s: float = GRACE_S
    _after: str = field(default="")

    def run(self, *, limit: int = LIMIT) -> SweepResult:
        """Publish messages for pending targets and expired jobs, up to a limit."""
        result = SweepResult()
        start, self._after = self._after, ""
        pending = Query(deleted=False, pending=True)
        for records in find_pages(self.ledger, pending, after=start, limit=PAGE):
            result.files += len(records)
            result.pending += self._publish(records, self._find_pending)
            if result.messages >= limit:
                self._after = records[-1].uri
                result.limited = True
                return result
        for job in self.graph.jobs:
            running = Query(deleted=False, job=job, state=State.RUNNING)
            for records in find_pages(self.ledger, running, limit=PAGE):
                result.files += len(records)
                result.expired += self._publish(records, self._find_expired)
                if result.messages >= limit:
                    result.limited = True
                    return result
        return result

    def _publish(
        self,
        records: list[Record],
        select: Callable[[Record, datetime], dict[str, tuple[str, ...] | None]],
    ) -> int:
        """Publish first, then record it: a crash in between publishes twice, not never."""
        now = self.clock()
        found = [(record, jobs) for record in records if (jobs := select(record, now))]
        messages = [
            Message(
                uri=record.uri,
                generation=record.generation,
                job=job,
                targets=targets,
                lane=Lane.REQUESTS.value,
            )
            for record, jobs in found
            for job, targets in jobs.items()
        ]
        if self.queue is not None and messages:
            self.queue.publish([message_to_envelope(message) for message in messages])
            self.ledger.change(
                [Change(uri=r.uri, transition=_build_mark(r, jobs, now)) for r, jobs in found]
            )
        return len(messages)

    def _find_pending(self, record: Record, now: datetime) -> dict[str, tuple[str, ...] | None]:
        """Return the jobs with pending targets that no one works on, and those targets."""
        return {
            job: None if EVERYTHING in entry.pending_targets else entry.pending_targets
            for job, entry in record.jobs.items()
            if job in self.graph.jobs
            and entry.pending_targets
            and not self._is_held(entry, now)
            and (entry.pending_at is None or self._is_old(entry.pending_at, now))
        }

    def _find_expired(self, record: Record, now: datetime) -> dict[str, tuple[str, ...] | None]:
        """Return the jobs whose worker was lost, and that have no pending targets."""
        return {
            job: (job,)
            for job, entry in record.jobs.items()
            if job in self.graph.jobs
            and entry.state is State.RUNNING
            and not entry.pending_targets
            and not self._is_held(entry, now)
            and entry.lease is not None
            and self._is_old(entry.lease.expires_at, now)
        }

    def _is_held(self, entry: Entry, now: datetime) -> bool:
        lease = entry.lease
        return lease is not None and lease.expires_at > now and not self.lost(lease)

    def _is_old(self, moment: datetime, now: datetime) -> bool:
        return moment + timedelta(seconds=self.grace_s) <= now


def _build_mark(
    published: Record, jobs: dict[str, tuple[str, ...] | None], now: datetime
) -> Callable[[Record | None], tuple[Record | None, None]]:
    """Build the transition that records when targets were published again.

    The next run then leaves them alone for the grace period. An expired job without targets gets
    itself as a target, and so the same.
    """

    def transition(found: Record | None) -> tuple[Record | None, None]:
        if found is None or found.generation != published.generation:
            return None, None
        entries = dict(found.jobs)
        for job in jobs:
            entry = entries.get(job)
            if entry is not None and entry.pending_targets:
                entries[job] = evolve(entry, pending_at=now)
            elif entry is not None and entry == published.jobs[job]:
                entries[job] = evolve(entry, pending_targets=(job,), pending_at=now)
        return (evolve(found, jobs=entries) if entries != found.jobs else None), None

    return transition
