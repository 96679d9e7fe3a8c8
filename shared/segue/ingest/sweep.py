"""The sweep: asks again for unfinished work.

Three kinds of work stay unfinished: results that are wanted, when a message was lost; finished ones
whose dependents were never notified, when the worker died before it told them or a backfill
finished the job; and jobs whose lease has expired. None is asked for before a grace period has
passed: a message for it may be waiting in a queue. What is paused, and what waits for that, is left
alone until it is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from segue.clock import Clock, utc_now
from segue.ingest.acceptance import accept_targets, build_requests
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Change, Ledger, Query, find_pages
from segue.model.planner import NO_JOBS
from segue.model.queue import Envelope, Queue
from segue.model.record import (
    FINISHED,
    LEASED,
    NOBODY,
    PENDING,
    Entry,
    Lease,
    Record,
    evolve,
)
from segue.model.transitions import forget_removed_jobs

GRACE_S = 900.0
LIMIT = 5_000  # messages per run
PAGE = 300


@dataclass(slots=True, kw_only=True)
class SweepResult:
    """The counts of one sweep."""

    files: int = 0  # looked at
    pending: int = 0  # messages for results that are wanted, or whose dependents are not notified
    expired: int = 0  # messages for jobs whose lease has expired
    limited: bool = False  # there may be more to publish

    @property
    def messages(self) -> int:
        """The number of messages that were published, or would be in a dry run."""
        return self.pending + self.expired


def _is_unnotified(entry: Entry) -> bool:
    """Whether anybody is yet to be notified of a result."""
    return any(whom != NOBODY for whom in entry.notify)


@dataclass(slots=True, kw_only=True)
class Sweeper:
    """Finds unfinished work, up to a limit of messages per run, and asks for it again.

    A run continues where the limit stopped the one before.
    """

    graph: Graph
    ledger: Ledger
    queue: Queue | None  # None: a dry run
    clock: Clock = utc_now
    lost: Callable[[Lease], bool] = is_lost
    grace_s: float = GRACE_S
    jobs: frozenset[str] | None = None  # only for these, if not finished; None: for all
    _after: str = field(default="")
    _paused: frozenset[str] = NO_JOBS

    def run(self, *, limit: int = LIMIT) -> SweepResult:
        """Publish requests for unfinished work, up to a limit."""
        self._paused = self.ledger.read_controls().select_paused(self.graph.jobs)
        result = SweepResult()
        start, self._after = self._after, ""
        for records in find_pages(self.ledger, Query(open=PENDING), after=start, limit=PAGE):
            result.files += len(records)
            result.pending += self._publish(records)
            # What is paused stays wanted: to read all of it each time would cost too much.
            if result.messages >= limit or (self._paused and result.files >= limit):
                self._after = records[-1].uri
                result.limited = True
                return result
        for records in find_pages(self.ledger, Query(open=LEASED), limit=PAGE):
            unseen = [r for r in records if not any(e.notify for e in r.results.values())]
            result.files += len(unseen)
            result.expired += self._publish(unseen)
            if result.messages >= limit:
                result.limited = True
                return result
        return result

    def _publish(self, records: Sequence[Record]) -> int:
        """Publish first, then record it: a crash in between publishes twice, not never."""
        now = self.clock()
        envelopes: list[Envelope] = []
        found = []
        for record in records:
            accepted, requests = self._accept(record, now)
            if accepted is not record:
                found.append(record)
            envelopes += requests
        if self.queue is None:
            return len(envelopes)
        if envelopes:
            self.queue.publish(envelopes)
        if found:
            self.ledger.change(
                [Change(uri=r.uri, transition=partial(self._mark, seen=r, now=now)) for r in found]
            )
        return len(envelopes)

    def _mark(
        self, found: Record | None, *, seen: Record, now: datetime
    ) -> tuple[Record | None, None]:
        """Record what was published, but for what was finished since: its worker notifies."""
        if found is None or found.order != seen.order or found.deleted_at is not None:
            return None, None
        marked = self._accept(found, now)[0]
        ended = {
            fingerprint: entry
            for fingerprint, entry in found.results.items()
            if entry.state in FINISHED
            and fingerprint in seen.results
            and seen.results[fingerprint].state not in FINISHED
        }
        marked = evolve(marked, results={**marked.results, **ended}) if ended else marked
        return (None if marked == found else marked), None

    def _accept(self, record: Record, now: datetime) -> tuple[Record, list[Envelope]]:
        """Return the requests for what is unfinished, and the record that says so.

        The next run then leaves it alone for the grace period.
        """
        record = forget_removed_jobs(record, self.graph, now)
        wanted = self._want_expired(record, now)
        due = {
            e.job
            for e in wanted.results.values()
            if e.notify and self._is_old(e.notify_at, now) and self._is_chosen(e)
        }
        targets = [job for job in self.graph.jobs if job in due]
        if not targets:
            return record, []
        accepted, planned = accept_targets(
            self.graph, wanted, targets, now, self.lost, self._paused
        )
        unnotified = [
            entry.job
            for entry in accepted.results.values()
            if entry.job in targets and entry.state in FINISHED and _is_unnotified(entry)
        ]
        # Whoever gets a request for a finished job notifies those who depend on it.
        requests = build_requests(self.graph, accepted, targets, (*planned.elsewhere, *unnotified))
        if not requests:
            return accepted, []
        results = {
            fingerprint: evolve(entry, notify_at=now)
            if entry.notify and entry.job in targets
            else entry
            for fingerprint, entry in accepted.results.items()
        }
        return evolve(accepted, results=results), requests

    def _is_chosen(self, entry: Entry) -> bool:
        if self.jobs is None:
            return True
        return entry.job in self.jobs and entry.state not in FINISHED

    def _want_expired(self, record: Record, now: datetime) -> Record:
        """Have results wanted whose worker was lost, and which nobody else wants."""
        wanted = {
            fingerprint: evolve(entry, notify=(NOBODY,), notify_at=entry.lease.expires_at)
            for fingerprint, entry in record.results.items()
            if not entry.notify
            and entry.lease is not None
            and entry.job in self.graph.jobs
            and self._is_old(entry.lease.expires_at, now)
        }
        return evolve(record, results={**record.results, **wanted}) if wanted else record

    def _is_old(self, moment: datetime | None, now: datetime) -> bool:
        return moment is None or moment + timedelta(seconds=self.grace_s) <= now
