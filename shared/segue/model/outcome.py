"""The outcome of one file in a run, and the totals of a whole run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import msgspec

from segue.errors import Kind, TooManyFailures
from segue.model.media_file import MediaFile, format_name
from segue.model.passed_over import PassedOver
from segue.model.planner import Verdict
from segue.model.record import Failure, State
from segue.model.transitions import Result
from segue.model.work_size import find_suffix_kind, guess_duration_s

K = TypeVar("K", bound=str)
N = TypeVar("N", int, float)


class Status(StrEnum):
    """The outcome of one job on one file."""

    DONE = "done"  # computed in this run
    CURRENT = "current"  # it was already there
    FAILED = "failed"  # in this run
    FAILED_BEFORE = "failed_before"  # and not tried again
    BLOCKED = "blocked"  # something above it failed, now or before
    NOT_APPLICABLE = "not_applicable"  # it, or something above it, is not for this file
    HELD = "held"  # another process is computing it
    PAUSED = "paused"  # an operator has paused the job
    WAITING = "waiting"  # something above it is held or paused
    DEFERRED = "deferred"  # a transient error outlived its retries; run again
    LOST = "lost"  # computed, but another process had taken it over
    SUPERSEDED = "superseded"  # the file has been overwritten
    DELETED = "deleted"
    ERASED = "erased"  # the file was taken down: nothing is computed for it again
    TODO = "todo"  # in a dry run: would be computed
    IDLE = "idle"  # missing, but not needed while its targets are blocked


FROM_VERDICT = {
    Verdict.RUN: Status.TODO,
    Verdict.CURRENT: Status.CURRENT,
    Verdict.HELD: Status.HELD,
    Verdict.PAUSED: Status.PAUSED,
    Verdict.ELSEWHERE: Status.WAITING,
    Verdict.WAITING: Status.WAITING,
    Verdict.FOREIGN: Status.WAITING,
    Verdict.FAILED: Status.FAILED_BEFORE,
    Verdict.BLOCKED: Status.BLOCKED,
    Verdict.NOT_APPLICABLE: Status.NOT_APPLICABLE,
    Verdict.IDLE: Status.IDLE,
}
FROM_STATE = {
    State.DONE: Status.DONE,
    State.FAILED: Status.FAILED,
    State.BLOCKED: Status.BLOCKED,
    State.NOT_APPLICABLE: Status.NOT_APPLICABLE,
    State.QUEUED: Status.DEFERRED,
}
# A run that ends with any of these has not finished its work. A file that was deleted meanwhile is
# not listed again.
UNFINISHED = frozenset(
    {
        Status.HELD,
        Status.PAUSED,
        Status.WAITING,
        Status.DEFERRED,
        Status.LOST,
        Status.SUPERSEDED,
        Status.DELETED,
    }
)
# A file with any of these lacks a result because a job failed, in this run or before.
FAILED = frozenset({Status.FAILED, Status.FAILED_BEFORE, Status.BLOCKED})
SUCCESSFUL = frozenset({Status.DONE, Status.CURRENT})
TRIED = frozenset({Status.DONE, Status.FAILED})
FAULTS_OF_THE_FILE = frozenset({Kind.CORRUPT_MEDIA, Kind.TOO_LARGE})


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one file in a run."""

    media: MediaFile
    jobs: Mapping[str, Status]
    results: Sequence[Result] = ()

    @classmethod
    def from_status(cls, media: MediaFile, jobs: Iterable[str], status: Status) -> Outcome:
        """Return an outcome with the same status for all jobs."""
        return cls(media=media, jobs=dict.fromkeys(jobs, status))

    @classmethod
    def from_failure(
        cls, media: MediaFile, jobs: Iterable[str], *, kind: str, message: str
    ) -> Outcome:
        """Return an outcome in which all jobs failed, of which the ledger has no record."""
        error = Failure(kind=kind, type=kind, message=message)
        results = [Result(job=job, state=State.FAILED, error=error) for job in jobs]
        return cls(media=media, jobs={r.job: Status.FAILED for r in results}, results=results)

    @classmethod
    def from_results(
        cls,
        media: MediaFile,
        verdicts: Mapping[str, Verdict],
        results: Sequence[Result],
        late: Sequence[str],
    ) -> Outcome:
        """Return the outcome of a plan's verdicts and the results."""
        jobs = {j: FROM_VERDICT[v] for j, v in verdicts.items()}
        for result in results:
            status = FROM_STATE[result.state]
            if status is Status.DEFERRED and result.error and result.error.kind == "superseded":
                status = Status.SUPERSEDED
            jobs[result.job] = Status.LOST if result.job in late else status
        return cls(media=media, jobs=jobs, results=results)


@dataclass(slots=True, kw_only=True)
class RunTotals:
    """Sums over many outcomes; the totals of parts add up to those of the whole."""

    files: int = 0
    failed_files: int = 0  # that lack a result because a job failed, in this run or before
    tried_files: int = 0  # for which a job has run, well or badly
    newly_failed_files: int = 0  # those of them with a job that failed in this run
    not_started: int = 0  # files that a run which was stopped early has left
    jobs: dict[str, dict[Status, int]] = field(default_factory=dict)
    failures: dict[str, dict[str, int]] = field(default_factory=dict)  # job → kind → files
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    # In a dry run, by ``job.kind`` (see ``find_suffix_kind``): the files to do, and about how long
    # they play.
    todo_files: dict[str, int] = field(default_factory=dict)
    todo_s: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)  # reason → files
    left_out_names: dict[str, list[str]] = field(default_factory=dict)  # reason → first URIs
    passed_over: PassedOver = field(default_factory=PassedOver)

    def add(self, outcome: Outcome) -> None:
        """Count one file."""
        self.files += 1
        length_s: float | None = None
        for job, status in outcome.jobs.items():
            counts = self.jobs.get(job)
            if counts is None:
                counts = self.jobs[job] = {}
            counts[status] = counts.get(status, 0) + 1
            if status is Status.TODO:
                length_s = guess_duration_s(outcome.media) if length_s is None else length_s
                kind = f"{job}.{find_suffix_kind(outcome.media)}"
                _add(self.todo_files, kind, 1)
                _add(self.todo_s, kind, length_s)
        statuses = outcome.jobs.values()
        self.failed_files += not FAILED.isdisjoint(statuses)
        self.tried_files += not TRIED.isdisjoint(statuses)
        self.newly_failed_files += Status.FAILED in statuses
        for result in outcome.results:
            if result.cpu_seconds is not None:
                _add(self.cpu_seconds, result.job, result.cpu_seconds)
            if result.error is not None and outcome.jobs.get(result.job) is Status.FAILED:
                _add(self.failures.setdefault(result.job, {}), result.error.kind, 1)

    def merge(self, other: RunTotals) -> None:
        """Add other totals to these."""
        self.files += other.files
        self.failed_files += other.failed_files
        self.tried_files += other.tried_files
        self.newly_failed_files += other.newly_failed_files
        self.not_started += other.not_started
        for job, statuses in other.jobs.items():
            for status, n in statuses.items():
                _add(self.jobs.setdefault(job, {}), status, n)
        for job, kinds in other.failures.items():
            for kind, n in kinds.items():
                _add(self.failures.setdefault(job, {}), kind, n)
        for job, seconds in other.cpu_seconds.items():
            _add(self.cpu_seconds, job, seconds)
        for kind, n in other.todo_files.items():
            _add(self.todo_files, kind, n)
        for kind, seconds in other.todo_s.items():
            _add(self.todo_s, kind, seconds)
        for reason, n in other.left_out.items():
            _add(self.left_out, reason, n)
        self.passed_over = self.passed_over + other.passed_over
        for reason, uris in other.left_out_names.items():
            self.left_out_names[reason] = sorted({*self.left_out_names.get(reason, ()), *uris})

    @property
    def failed_share(self) -> float:
        """The share of the files that lack a result because a job failed, or were left out.

        A file without a probe was left out, too: nobody knows whether it was meant.
        """
        left_out = sum(self.left_out.values()) + self.passed_over.without_probe
        return (self.failed_files + left_out) / max(self.files + left_out, 1)

    @property
    def is_nothing_included(self) -> bool:
        """Whether there are files, and the graph includes none of them."""
        return not (self.files or self.left_out) and self.passed_over.is_nothing_included

    @property
    def unfinished(self) -> bool:
        """Whether another run would do more."""
        return self.not_started > 0 or self.total(*UNFINISHED) > 0

    def total(self, *statuses: Status) -> int:
        """Return how many file-jobs have any of some statuses."""
        return sum(found.get(s, 0) for found in self.jobs.values() for s in statuses)


@dataclass(slots=True, kw_only=True)
class FirstFailures:
    """The failures of each job that has not succeeded for any file in this run.

    A file that cannot be decoded says nothing about the job, and does not count.
    """

    _worked: set[str] = field(default_factory=set)
    _kinds: dict[str, dict[str, int]] = field(default_factory=dict)  # job → kind → files
    _examples: dict[str, str] = field(default_factory=dict)  # by job

    def add(self, outcome: Outcome) -> None:
        """Count one file. A result that is current is a success: the same job computed it."""
        for job, status in outcome.jobs.items():
            if status in SUCCESSFUL and job not in self._worked:
                self._worked.add(job)
                self._kinds.pop(job, None)
        for result in outcome.results:
            error = result.error
            if (
                error is not None
                and error.kind not in FAULTS_OF_THE_FILE
                and outcome.jobs.get(result.job) is Status.FAILED
                and result.job not in self._worked
            ):
                _add(self._kinds.setdefault(result.job, {}), error.kind, 1)
                self._examples[result.job] = f"{format_name(outcome.media.uri)}: {error.message}"

    def check(self, limit: int) -> None:
        """Raise TooManyFailures if a job has failed for so many files, and succeeded for none."""
        for job, kinds in self._kinds.items():
            if (n := sum(kinds.values())) >= limit:
                counts = ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
                raise TooManyFailures(
                    f"the first {n:,} files all failed in job {job!r} ({counts}), so probably the "
                    f"files are not at fault; the last one was {self._examples[job]}. The "
                    f"failures are recorded, and the run stops. Fix the cause, then run 'segue "
                    f"retry --job {job}' and this command again; to go on regardless, add "
                    "--tolerate 100%"
                )


def _add(sums: dict[K, N], key: K, n: N) -> None:
    sums[key] = sums.get(key, 0) + n
