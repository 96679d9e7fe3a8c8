"""Estimates the cost of a run: mean CPU time of finished jobs times the work left to do."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query
from segue.model.outcome import RunTotals, Status
from segue.model.record import State

MEASURED_ON = 200  # files; more would cost reads and hardly change the mean


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
    graph: Graph, ledger: Ledger, totals: RunTotals, *, vcpus: int, price: float
) -> Estimate:
    """Estimate the cost of the work that a dry run found."""
    jobs = []
    for job in graph.jobs:
        if job not in totals.jobs:
            continue
        todo = totals.jobs[job].get(Status.TODO, 0)
        seconds = _find_cpu_seconds(graph, ledger, job) if todo else []
        jobs.append(
            JobEstimate(
                job=job,
                todo=todo,
                measured_on=len(seconds),
                cpu_seconds=fmean(seconds) if seconds else None,
            )
        )
    return Estimate(jobs=tuple(jobs), vcpus=vcpus, price=price)


def _find_cpu_seconds(graph: Graph, ledger: Ledger, job: str) -> list[float]:
    """Return the CPU time of some finished files.

    Results of older versions count only if there are none of the current one.
    """
    found = ledger.find(Query(job=job, state=State.DONE), limit=MEASURED_ON)
    entries = [r.jobs[job] for r in found]
    fresh = [e for e in entries if e.fingerprint == graph.fingerprints[job]] or entries
    return [e.cpu_seconds for e in fresh if e.cpu_seconds is not None]
