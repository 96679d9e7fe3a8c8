"""Follows what was asked for until it is done: how many of the results are there, and what failed.

What is finished is not looked at again, so that following a large request stays cheap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from segue.ingest.requests import Asked
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Ledger, Query, current
from segue.model.planner import Verdict, line
from segue.model.record import Lease, Record, State
from segue.reports.job_counts import records

READ_BATCH = 500
FAILURES = 100  # that are kept to be shown
OVER = ("done", "failed", "blocked", "deleted")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTarget:
    """A target of one file that will not be there."""

    uri: str
    job: str
    state: str
    kind: str
    message: str


@dataclass(slots=True, kw_only=True)
class Course:
    """How far what was asked for is, by job."""

    files: int = 0
    finished: int = 0  # files
    jobs: dict[str, Counter[str]] = field(default_factory=dict)  # job → done, failed, running …
    failed: list[FailedTarget] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come."""
        return self.files > 0 and self.finished == self.files

    @property
    def failures(self) -> int:
        """How many results will not be there."""
        return sum(c["failed"] + c["blocked"] for c in self.jobs.values())


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Follower:
    """Looks again and again at what was asked for."""

    graph: Graph
    ledger: Ledger
    asked: Asked
    clock: Callable[[], datetime] = _utc_now
    lost: Callable[[Lease], bool] = is_lost
    _over: dict[str, dict[str, str]] = field(default_factory=dict)  # URI → states that stay
    _open: dict[str, None] = field(default_factory=dict)
    _failed: list[FailedTarget] = field(default_factory=list)

    def look(self) -> Course:
        """Tell how far it is."""
        if not self._open:
            self._list()
        course = Course(jobs={job: Counter() for job in self.jobs}, failed=self._failed)
        uris = list(self._open)
        for start in range(0, len(uris), READ_BATCH):
            some = uris[start : start + READ_BATCH]
            for uri, snapshot in zip(some, self.ledger.read(some), strict=True):
                self._weigh(uri, snapshot.record, course)
        for states in self._over.values():
            for job, state in states.items():
                course.jobs[job][state] += 1
        course.files = len(self._over) + len(self._open)
        course.finished = len(self._over)
        return course

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs whose results, or traces of a ping, are waited for."""
        known = [job for job in self.asked.targets if job in self.graph.jobs]
        return self.graph.upward(known) if self.asked.ping else tuple(known)

    def _list(self) -> None:
        if self.asked.prefix is None:
            found = iter(self.asked.files)
        else:
            found = (r.uri for r in records(self.ledger, Query(prefix=self.asked.prefix)))
        self._open = dict.fromkeys(uri for uri in found if uri not in self._over)

    def _weigh(self, uri: str, record: Record | None, course: Course) -> None:
        states = self._states(record)
        if all(state in OVER for state in states.values()):
            self._over[uri] = states
            del self._open[uri]
            if record is not None:
                self._keep(record, states)
            return
        for job, state in states.items():
            course.jobs[job][state] += 1

    def _states(self, record: Record | None) -> dict[str, str]:
        if record is None:
            return dict.fromkeys(self.jobs, "unknown")
        if record.deleted_at is not None:
            return dict.fromkeys(self.jobs, "deleted")
        if self.asked.ping:
            return {job: self._traced(record, job) for job in self.jobs}
        verdicts = line(self.graph, record, self.jobs, now=self.clock(), lost=self.lost).verdicts
        return {job: self._state(record, job, verdicts[job]) for job in self.jobs}

    def _traced(self, record: Record, job: str) -> str:
        ping = record.pings.get(job)
        return "done" if ping is not None and ping.request >= self.asked.request else "waiting"

    def _state(self, record: Record, job: str, verdict: Verdict) -> str:
        entry = record.jobs.get(job)
        if entry is None:
            return "blocked" if verdict is Verdict.BLOCKED else "waiting"
        late = self.asked.force and (entry.request is None or entry.request < self.asked.request)
        if not late and current(self.graph, record, job):
            return "done"
        if not late and verdict in (Verdict.FAILED, Verdict.BLOCKED):
            return str(verdict)
        return str(entry.state) if entry.state in (State.QUEUED, State.RUNNING) else "waiting"

    def _keep(self, record: Record, states: dict[str, str]) -> None:
        room = FAILURES - len(self._failed)
        bad = ((job, state) for job, state in states.items() if state in ("failed", "blocked"))
        for job, state in islice(bad, max(room, 0)):
            entry = record.jobs.get(job)
            error = entry.error if entry is not None else None
            self._failed.append(
                FailedTarget(
                    uri=record.uri,
                    job=job,
                    state=state,
                    kind=error.kind if error is not None else "blocked",
                    message=error.message if error is not None else "a job above it failed",
                )
            )
