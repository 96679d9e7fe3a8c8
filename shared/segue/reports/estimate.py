"""Estimates the cost of a run from the CPU time of finished jobs and the size of the work left.

What a job costs for a file is taken for ``a + b * s``, in which ``s`` says about how long the file
plays. If the measured files differ enough in length, least squares give both. Otherwise they cannot
be told apart, and ``a`` is taken for what five seconds of the file cost: about what it takes to
open and to decode anything, as measured with the jobs that ship with Segue. Files of a suffix of
which enough were measured are estimated by these alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import NamedTuple

from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query, find_records
from segue.model.outcome import RunTotals, Status
from segue.model.record import State
from segue.model.work_size import find_suffix_kind, guess_duration_s

MEASURED_ON = 200  # files; more would cost reads and hardly change the mean
READ_AT_MOST = 5_000  # files, of which many may have no result
START_S = 5.0  # of a file, that cost as much as what is the same for all files
LEAST_TO_FIT = 8  # files
LEAST_SPREAD = 3.0  # between the lengths of the long and the short ones


class Sample(NamedTuple):
    """What a job took for one file."""

    length_s: float  # about how long the file plays
    cpu_seconds: float
    kind: str = ""  # see ``find_suffix_kind``


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEstimate:
    """The work left to do for one job, and the CPU time that it takes."""

    job: str
    todo: int  # files
    measured_on: int  # files whose CPU time is known
    cpu_seconds: float | None  # for a mean one of those files; None if it was never measured

    @property
    def vcpu_hours(self) -> float | None:
        """CPU time of the work left to do."""
        return None if self.cpu_seconds is None else self.todo * self.cpu_seconds / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The CPU time, duration and cost of a run."""

    jobs: tuple[JobEstimate, ...]
    vcpus: int
    price: float  # per vCPU-hour

    @property
    def complete(self) -> bool:
        """Whether every job with work left was measured."""
        return all(j.vcpu_hours is not None for j in self.jobs if j.todo)

    @property
    def vcpu_hours(self) -> float:
        """CPU time of all measured jobs."""
        return sum(j.vcpu_hours or 0.0 for j in self.jobs)

    @property
    def cost(self) -> float:
        """The cost, in the currency of the price."""
        return self.vcpu_hours * self.price

    @property
    def eta_s(self) -> float:
        """The duration if all vCPUs are busy."""
        return self.vcpu_hours * 3600 / self.vcpus


def estimate(
    graph: Graph,
    ledger: Ledger,
    totals: RunTotals,
    *,
    vcpus: int,
    price: float,
    prefix: str = "",
) -> Estimate:
    """Estimate the cost of the work that a dry run found; results below a prefix come first."""
    todo = {job: totals.jobs[job].get(Status.TODO, 0) for job in graph.jobs if job in totals.jobs}
    wanted = [job for job, files in todo.items() if files]
    measured = measure_jobs(graph, ledger, wanted, prefix)
    if prefix and (rest := [job for job in wanted if not measured[job]]):
        measured |= measure_jobs(graph, ledger, rest, "")
    jobs = [
        JobEstimate(
            job=job,
            todo=files,
            measured_on=len(samples := measured.get(job, [])),
            cpu_seconds=_predict(samples, _list_todo(totals, job)),
        )
        for job, files in todo.items()
    ]
    return Estimate(jobs=tuple(jobs), vcpus=vcpus, price=price)


def _list_todo(totals: RunTotals, job: str) -> dict[str, tuple[int, float]]:
    """Return how many files are to do, and about how long they play, by the kind of suffix."""
    return {
        name.partition(".")[2]: (files, totals.todo_s.get(name, 0.0))
        for name, files in totals.todo_files.items()
        if name.partition(".")[0] == job
    }


def _predict(samples: Sequence[Sample], todo: Mapping[str, tuple[int, float]]) -> float | None:
    """Return the CPU time for a mean one of some files."""
    if not samples:
        return None
    if not todo:
        return fmean(sample.cpu_seconds for sample in samples)
    cpu_seconds = 0.0
    for kind, (files, length_s) in todo.items():
        alike = [sample for sample in samples if sample.kind == kind]
        fixed, per_s = _fit(alike if len(alike) >= LEAST_TO_FIT else samples)
        cpu_seconds += files * fixed + length_s * per_s
    return cpu_seconds / sum(files for files, _ in todo.values())


def _fit(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the CPU time that a job takes for any file, and for each second that it plays."""
    cpu = fmean(sample.cpu_seconds for sample in samples)
    length = fmean(sample.length_s for sample in samples)
    lengths = sorted(sample.length_s for sample in samples)
    tenth = len(lengths) // 10
    shortest, longest = lengths[tenth], lengths[-1 - tenth]
    if len(samples) < LEAST_TO_FIT or longest < LEAST_SPREAD * shortest or not longest:
        per_s = cpu / (START_S + length)
        return per_s * START_S, per_s
    products = sum((s.length_s - length) * (s.cpu_seconds - cpu) for s in samples)
    per_s = max(products / sum((s.length_s - length) ** 2 for s in samples), 0.0)
    fixed = cpu - per_s * length
    return (fixed, per_s) if fixed >= 0 else (0.0, cpu / length)


def measure_jobs(
    graph: Graph, ledger: Ledger, jobs: Sequence[str], prefix: str
) -> dict[str, list[Sample]]:
    """Return the CPU time of each job for some finished files, and about how long these play.

    Results of earlier versions count only if there are none of the present one.
    """
    present: dict[str, list[Sample]] = {job: [] for job in jobs}
    earlier: dict[str, list[Sample]] = {job: [] for job in jobs}
    found = find_records(ledger, Query(prefix=prefix, deleted=False)) if jobs else iter(())
    for record in islice(found, READ_AT_MOST):
        length_s, kind = guess_duration_s(record.media), find_suffix_kind(record.media)
        for fingerprint, entry in record.results.items():
            if entry.job not in present or entry.cpu_seconds is None:
                continue
            if entry.state is State.DONE:
                is_present = fingerprint == graph.fingerprints[entry.job]
                sample = Sample(length_s, entry.cpu_seconds, kind)
                (present if is_present else earlier)[entry.job].append(sample)
        if all(len(samples) >= MEASURED_ON for samples in present.values()):
            break
    return {job: present[job] or earlier[job] for job in jobs}
