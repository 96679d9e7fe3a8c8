"""Estimates the cost of a run: mean CPU time of finished jobs times the work left to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
    todo = {job: totals.jobs.get(job, {}).get(Status.TODO, 0) for job in graph.jobs}
    measured = measure(graph, ledger, [job for job, n in todo.items() if n])
    return Estimate(
        jobs=tuple(
            JobEstimate(
                job=job,
                todo=n,
                measured_on=measured.get(job, (0, None))[0],
                cpu_seconds=measured.get(job, (0, None))[1],
            )
            for job, n in todo.items()
            if job in totals.jobs
        ),
        vcpus=vcpus,
        price=price,
    )


def measure(
    graph: Graph, ledger: Ledger, jobs: Iterable[str]
) -> Mapping[str, tuple[int, float | None]]:
    """Return for each job the number of files whose CPU time is known, and the mean in seconds.

    Results of older versions count only if there are none of the current one.
    """
    measured: dict[str, tuple[int, float | None]] = {}
    for job in jobs:
        found = ledger.find(Query(job=job, state=State.DONE), limit=MEASURED_ON)
        entries = [r.jobs[job] for r in found]
        fresh = [e for e in entries if e.fingerprint == graph.fingerprints[job]] or entries
        seconds = [e.cpu_seconds for e in fresh if e.cpu_seconds is not None]
        measured[job] = (len(seconds), sum(seconds) / len(seconds) if seconds else None)
    return measured
