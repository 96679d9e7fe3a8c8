"""The sweeper: what was left lying is published again.

Two things can be left: targets that somebody asked for and that nobody was told of (whoever was to
tell them died, or finished the job in a backfill), and jobs whose lease has expired. Neither is
looked at before a grace has passed, so that what is merely waiting in a queue is not doubled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Change, Ledger, Query
from segue.model.message import Message
from segue.model.queue import Lane, Queue, letter
from segue.model.record import EVERYTHING, Entry, Lease, Record, State, evolve

GRACE_S = 900.0
LIMIT = 5_000  # messages a run
PAGE = 300


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Swept:
    """What a run of the sweeper did."""

    files: int = 0  # looked at
    owed: int = 0  # messages for targets that were still owed
    expired: int = 0  # messages for jobs whose lease has expired
    limited: bool = False  # there may be more to publish

    @property
    def messages(self) -> int:
        """All that was published, or would be."""
        return self.owed + self.expired


@dataclass(slots=True, kw_only=True)
class Sweeper:
    """Looks for what was left lying, a bounded part of the ledger a run.

    A run goes on where the one before was stopped by its limit.
    """

    graph: Graph
    ledger: Ledger
    queue: Queue | None  # None: only look
    clock: Callable[[], datetime] = _utc_now
    lost: Callable[[Lease], bool] = is_lost
    grace_s: float = GRACE_S
    _after: str = field(default="")

    def run(self, *, limit: int = LIMIT) -> Swept:
        """Publish what is owed or has expired, up to a number of messages."""
        swept = Swept()
        start, self._after = self._after, ""
        for records in self._pages(Query(deleted=False, owed=True), start):
            self._publish(records, self._owed, swept)
            if swept.messages >= limit:
                self._after = records[-1].uri
                swept.limited = True
                return swept
        for job in self.graph.jobs:
            for records in self._pages(Query(deleted=False, job=job, state=State.RUNNING)):
                self._publish(records, self._expired, swept)
                if swept.messages >= limit:
                    swept.limited = True
                    return swept
        return swept

    def _pages(self, query: Query, after: str = "") -> Iterator[list[Record]]:
        while records := self.ledger.find(query, after=after, limit=PAGE):
            yield records
            after = records[-1].uri

    def _publish(
        self,
        records: list[Record],
        chosen: Callable[[Record, datetime], dict[str, tuple[str, ...] | None]],
        swept: Swept,
    ) -> None:
        """Publish first and note it then: whoever dies in between publishes twice, not never."""
        now = self.clock()
        found = [(record, jobs) for record in records if (jobs := chosen(record, now))]
        count = sum(len(jobs) for _, jobs in found)
        swept.files += len(records)
        if chosen == self._owed:
            swept.owed += count
        else:
            swept.expired += count
        if self.queue is None or not found:
            return
        self.queue.publish(
            [letter(_asking(r, job, targets)) for r, jobs in found for job, targets in jobs.items()]
        )
        self.ledger.change(
            [Change(uri=r.uri, transition=_noting(r, jobs, now)) for r, jobs in found]
        )

    def _owed(self, record: Record, now: datetime) -> dict[str, tuple[str, ...] | None]:
        """Jobs at which targets are owed that nobody is working for."""
        return {
            job: None if EVERYTHING in entry.wanted else entry.wanted
            for job, entry in record.jobs.items()
            if job in self.graph.jobs
            and entry.wanted
            and not self._is_held(entry, now)
            and (entry.wanted_at is None or self._is_old(entry.wanted_at, now))
        }

    def _expired(self, record: Record, now: datetime) -> dict[str, tuple[str, ...] | None]:
        """Jobs that somebody began and lost, and at which nothing else is owed."""
        return {
            job: (job,)
            for job, entry in record.jobs.items()
            if job in self.graph.jobs
            and entry.state is State.RUNNING
            and not entry.wanted
            and not self._is_held(entry, now)
            and entry.lease is not None
            and self._is_old(entry.lease.expires_at, now)
        }

    def _is_held(self, entry: Entry, now: datetime) -> bool:
        lease = entry.lease
        return lease is not None and lease.expires_at > now and not self.lost(lease)

    def _is_old(self, moment: datetime, now: datetime) -> bool:
        return moment + timedelta(seconds=self.grace_s) <= now


def _asking(record: Record, job: str, targets: tuple[str, ...] | None) -> Message:
    return Message(
        uri=record.uri,
        generation=record.generation,
        job=job,
        targets=targets,
        lane=Lane.REQUESTS.value,
    )


def _noting(
    seen: Record, jobs: dict[str, tuple[str, ...] | None], now: datetime
) -> Callable[[Record | None], tuple[Record | None, None]]:
    """Note when targets were asked for again, so that the next run leaves them alone for a while.

    An expired job without any gets itself as a target: then it is one of those.
    """

    def transition(found: Record | None) -> tuple[Record | None, None]:
        if found is None or found.generation != seen.generation:
            return None, None
        entries = dict(found.jobs)
        for job in jobs:
            entry = entries.get(job)
            if entry is not None and entry.wanted:
                entries[job] = evolve(entry, wanted_at=now)
            elif entry is not None and entry == seen.jobs[job]:
                entries[job] = evolve(entry, wanted=(job,), wanted_at=now)
        return (evolve(found, jobs=entries) if entries != found.jobs else None), None

    return transition
