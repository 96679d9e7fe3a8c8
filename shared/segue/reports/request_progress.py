"""Watches a request until all its results are done or have failed.

Finished files are not read again, so watching a large request stays cheap.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from segue.clock import Clock, utc_now
from segue.errors import Kind
from segue.model.criteria import Criteria
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Ledger, Query, find_records
from segue.model.planner import NO_STATES, Verdict, plan
from segue.model.record import FINISHED, UNFINISHED, Entry, Record, State
from segue.model.run import RunRecord
from segue.model.transitions import find_entry, is_current

READ_BATCH = 500
MAX_FAILURES = 100  # to show
FINAL_STATES = frozenset({"done", "failed", "blocked", "not_applicable", "deleted"})
REFUSALS = frozenset({Verdict.FAILED, Verdict.BLOCKED, Verdict.NOT_APPLICABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTarget:
    """A target of one file that failed or is blocked."""

    uri: str
    job: str
    state: str
    kind: str
    message: str


@dataclass(slots=True, kw_only=True)
class RequestProgress:
    """How many results of a request are in which state, by job."""

    files: int = 0
    finished: int = 0  # files
    jobs: dict[str, Counter[str]] = field(default_factory=dict)  # job → done, failed, running …
    failed: list[FailedTarget] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether all files are finished."""
        return self.files > 0 and self.finished == self.files

    @property
    def failures(self) -> int:
        """The number of results that failed or are blocked."""
        return sum(c["failed"] + c["blocked"] for c in self.jobs.values())

    @property
    def deleted(self) -> int:
        """The number of results whose file has been deleted."""
        return sum(c["deleted"] for c in self.jobs.values())


@dataclass(slots=True, kw_only=True)
class RequestWatcher:
    """Reads the progress of a request, as often as it is asked."""

    graph: Graph
    ledger: Ledger
    request: RunRecord
    clock: Clock = utc_now
    _final: dict[str, dict[str, str]] = field(default_factory=dict)  # URI → final state of each job
    _open: dict[str, None] = field(default_factory=dict)
    _failed: list[FailedTarget] = field(default_factory=list)

    def read_progress(self) -> RequestProgress:
        """Read the unfinished files, and return the progress of all."""
        if not self._open:
            self._list()
        progress = RequestProgress(jobs={job: Counter() for job in self.jobs}, failed=self._failed)
        uris = list(self._open)
        for start in range(0, len(uris), READ_BATCH):
            batch = uris[start : start + READ_BATCH]
            for uri, snapshot in zip(batch, self.ledger.read(batch), strict=True):
                if snapshot.damage is not None:
                    self._end_damaged(uri, snapshot.damage)
                else:
                    self._count_file(uri, snapshot.record, progress)
        for states in self._final.values():
            for job, state in states.items():
                progress.jobs[job][state] += 1
        progress.files = len(self._final) + len(self._open)
        progress.finished = len(self._final)
        return progress

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs whose results, or pings, are awaited."""
        known = [job for job in self.request.jobs if job in self.graph.jobs]
        return self.graph.add_ancestors(known) if self.request.ping else tuple(known)

    def _list(self) -> None:
        selection = self.request.selection
        if selection.prefix is None:
            found = iter(selection.files)
        else:
            records = find_records(self.ledger, Query(prefix=selection.prefix))
            if selection.criteria != Criteria():
                records = filter(self._is_wanted, records)
            found = (record.uri for record in records)
        self._open = dict.fromkeys(uri for uri in found if uri not in self._final)

    def _is_wanted(self, record: Record) -> bool:
        """Whether some target was wanted of a file: of those not selected, nothing is recorded."""
        return any(
            find_entry(self.graph, record, job) is not None or is_current(self.graph, record, job)
            for job in self.jobs
        )

    def _count_file(self, uri: str, record: Record | None, progress: RequestProgress) -> None:
        states = self._find_states(record)
        if all(state in FINAL_STATES for state in states.values()):
            self._final[uri] = states
            del self._open[uri]
            if record is not None:
                self._keep_failures(record, states)
            return
        for job, state in states.items():
            progress.jobs[job][state] += 1

    def _end_damaged(self, uri: str, damage: str) -> None:
        """End a file whose record cannot be read, which waiting does not change."""
        self._final[uri] = dict.fromkeys(self.jobs, str(State.FAILED))
        del self._open[uri]
        self._failed += [
            FailedTarget(
                uri=uri, job=job, state=State.FAILED, kind=Kind.DAMAGED_RECORD, message=damage
            )
            for job in self.jobs[: MAX_FAILURES - len(self._failed)]
        ]

    def _find_states(self, record: Record | None) -> dict[str, str]:
        if record is None:
            return dict.fromkeys(self.jobs, "unknown")
        if record.deleted_at is not None:
            return dict.fromkeys(self.jobs, "deleted")
        if self.request.ping:
            own = self.request.id
            arrived = {j for j, p in record.pings.items() if own in (p.request, *p.before)}
            return {job: "done" if job in arrived else "waiting" for job in self.jobs}
        planned = plan(self.graph, record, NO_STATES, self.jobs, self.clock(), lost=is_lost)
        return {job: self._find_state(record, job, planned.verdicts[job]) for job in self.jobs}

    def _find_state(self, record: Record, job: str, verdict: Verdict) -> str:
        entry = find_entry(self.graph, record, job)
        if not self._is_outdated(record, entry):
            if is_current(self.graph, record, job):
                return "done"
            if verdict in REFUSALS:
                return str(verdict)
            if verdict is Verdict.FOREIGN and entry is not None and entry.state in FINISHED:
                return str(entry.state)  # its pipeline has read what the other namespace has
        return str(entry.state) if entry is not None and entry.state in UNFINISHED else "waiting"

    def _is_outdated(self, record: Record, entry: Entry | None) -> bool:
        """Whether a forced result has not been asked for again; a newer file needs none of that.

        An entry keeps only the latest requests, so a later one stands for this one.
        """
        if not self.request.force or record.arrived_at > self.request.started_at:
            return False
        requests = entry.requests if entry is not None else ()
        return self.request.id not in requests and (max(requests, default="") < self.request.id)

    def _keep_failures(self, record: Record, states: dict[str, str]) -> None:
        for job, state in states.items():
            if state not in ("failed", "blocked") or len(self._failed) >= MAX_FAILURES:
                continue
            entry = find_entry(self.graph, record, job)
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
