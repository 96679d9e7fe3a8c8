"""What became of a file in one run, and the tally of a whole run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shared.ledger import Result
from shared.media import MediaFile
from shared.planner import Line, Verdict
from shared.record import Failure, State


class Status(StrEnum):
    """What became of one job of one file."""

    DONE = "done"  # computed in this run
    CURRENT = "current"  # was there already
    FAILED = "failed"  # in this run
    FAILED_BEFORE = "failed_before"  # and not tried again
    BLOCKED = "blocked"  # something above it failed, now or before
    HELD = "held"  # another process is computing it
    WAITING = "waiting"  # something above it is held
    DEFERRED = "deferred"  # a transient error outlived its retries; run again
    LOST = "lost"  # computed, but somebody else had taken it over
    SUPERSEDED = "superseded"  # the file has been overwritten
    DELETED = "deleted"
    TODO = "todo"  # in a dry run: would be computed
    IDLE = "idle"  # missing, but of no use while its targets are blocked


FROM_VERDICT = {
    Verdict.RUN: Status.TODO,
    Verdict.CURRENT: Status.CURRENT,
    Verdict.HELD: Status.HELD,
    Verdict.WAITING: Status.WAITING,
    Verdict.FAILED: Status.FAILED_BEFORE,
    Verdict.BLOCKED: Status.BLOCKED,
    Verdict.IDLE: Status.IDLE,
}
FROM_STATE = {
    State.DONE: Status.DONE,
    State.FAILED: Status.FAILED,
    State.BLOCKED: Status.BLOCKED,
    State.QUEUED: Status.DEFERRED,
}
# A run in which any of these is left has not finished its work.
UNFINISHED = frozenset(
    {Status.HELD, Status.WAITING, Status.DEFERRED, Status.LOST, Status.SUPERSEDED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one file."""

    media: MediaFile
    jobs: Mapping[str, Status]
    results: Sequence[Result] = ()

    @classmethod
    def of_all(cls, media: MediaFile, jobs: Iterable[str], status: Status) -> Outcome:
        """The same for all jobs."""
        return cls(media=media, jobs=dict.fromkeys(jobs, status))

    @classmethod
    def planned(cls, media: MediaFile, plan: Line) -> Outcome:
        """What the planner says, with nothing run."""
        return cls(media=media, jobs={j: FROM_VERDICT[v] for j, v in plan.verdicts.items()})

    @classmethod
    def run(
        cls, media: MediaFile, plan: Line, results: Sequence[Result], lost: Sequence[str]
    ) -> Outcome:
        """What the planner said, with what then happened."""
        jobs = {j: FROM_VERDICT[v] for j, v in plan.verdicts.items()}
        for result in results:
            status = FROM_STATE[result.state]
            if status is Status.DEFERRED and result.error and result.error.kind == "superseded":
                status = Status.SUPERSEDED
            jobs[result.job] = Status.LOST if result.job in lost else status
        return cls(media=media, jobs=jobs, results=results)


@dataclass(slots=True, kw_only=True)
class Tally:
    """Sums of many outcomes; tallies of parts add up to that of the whole."""

    files: int = 0
    failed_files: int = 0  # on which something failed in this run
    jobs: dict[str, Counter[Status]] = field(default_factory=dict)
    failures: dict[str, Counter[str]] = field(default_factory=dict)  # job → kind → files
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)  # why → files that were not looked at

    def add(self, outcome: Outcome) -> None:
        """Count one file."""
        self.files += 1
        for job, status in outcome.jobs.items():
            counter = self.jobs.get(job)
            if counter is None:
                counter = self.jobs[job] = Counter()
            counter[status] += 1
        if Status.FAILED in outcome.jobs.values():
            self.failed_files += 1
        for result in outcome.results:
            if result.cpu_seconds is not None:
                spent = self.cpu_seconds.get(result.job, 0.0)
                self.cpu_seconds[result.job] = spent + result.cpu_seconds
            if result.error is not None and outcome.jobs.get(result.job) is Status.FAILED:
                self.failures.setdefault(result.job, Counter())[result.error.kind] += 1

    def merge(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.files += other.files
        self.failed_files += other.failed_files
        for why, n in other.left_out.items():
            self.left_out[why] = self.left_out.get(why, 0) + n
        for job, counter in other.jobs.items():
            self.jobs.setdefault(job, Counter()).update(counter)
        for job, kinds in other.failures.items():
            self.failures.setdefault(job, Counter()).update(kinds)
        for job, seconds in other.cpu_seconds.items():
            self.cpu_seconds[job] = self.cpu_seconds.get(job, 0.0) + seconds

    @property
    def unfinished(self) -> bool:
        """Whether running again would do more."""
        return self.total(*UNFINISHED) > 0

    def total(self, *statuses: Status) -> int:
        """How many file-jobs ended in any of some statuses."""
        return sum(counter[s] for counter in self.jobs.values() for s in statuses)


def blocked(job: str, cause: str) -> Result:
    """Say that a job could not run because one above it failed."""
    message = f"{cause!r} above it failed; once that is mended, 'segue retry' runs both"
    return Result(
        job=job,
        state=State.BLOCKED,
        error=Failure(kind="blocked", type=cause, message=message),
    )
