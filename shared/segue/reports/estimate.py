"""Estimates the cost of a run: mean CPU time of finished jobs times the work left to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query, find_records
from segue.model.outcome import RunTotals, Status
from segue.model.record import State

MEASURED_ON = 200  # files; more would cost reads and hardly change the mean
READ_AT_MOST = 5_000  # files, of which many may have no result


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEstimate:
    """The work left to do for one job, and the CPU time that it takes."""

    job: str
    todo: int  # files
    measured_on: int  # files whose CPU time is known
    cpu_seconds: float | None  # for one file; None if it has never been measured

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
    measured = _measure(graph, ledger, wanted, prefix)
    if prefix and (rest := [job for job in wanted if not measured[job]]):
        measured |= _measure(graph, ledger, rest, "")
    jobs = [
        JobEstimate(
            job=job,
            todo=files,
            measured_on=len(seconds := measured.get(job, [])),
            cpu_seconds=fmean(seconds) if seconds else None,
        )
        for job, files in todo.items()
    ]
    return Estimate(jobs=tuple(jobs), vcpus=vcpus, price=price)


def _measure(
    graph: Graph, ledger: Ledger, jobs: Sequence[str], prefix: str
) -> dict[str, list[float]]:
    """Return the CPU time of each job for some finished files.

    Results of earlier versions count only if there are none of the present one.
    """
    present: dict[str, list[float]] = {job: [] for job in jobs}
    earlier: dict[str, list[float]] = {job: [] for job in jobs}
    found = find_records(ledger, Query(prefix=prefix, deleted=False)) if jobs else iter(())
    for record in islice(found, READ_AT_MOST):
        for fingerprint, entry in record.results.items():
            if entry.job not in present or entry.cpu_seconds is None:
                continue
            if entry.state is State.DONE:
                is_present = fingerprint == graph.fingerprints[entry.job]
                (present if is_present else earlier)[entry.job].append(entry.cpu_seconds)
        if all(len(seconds) >= MEASURED_ON for seconds in present.values()):
            break
    return {job: present[job] or earlier[job] for job in jobs}
