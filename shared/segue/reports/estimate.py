"""What a run will cost: measured seconds of finished work, times what is left to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query
from segue.model.outcome import Status, Tally
from segue.model.record import State

MEASURED_ON = 200  # files; more would cost reads and hardly change the mean


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEstimate:
    """What is left to do for one job, and what that takes."""

    job: str
    todo: int  # files
    measured_on: int  # files whose CPU time is known
    cpu_seconds: float | None  # for one file; None if it has never been measured

    @property
    def vcpu_hours(self) -> float | None:
        """CPU time of all that is left to do."""
        return None if self.cpu_seconds is None else self.todo * self.cpu_seconds / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will take."""

    jobs: tuple[JobEstimate, ...]
    vcpus: int
    price: float  # of a vCPU-hour

    @property
    def complete(self) -> bool:
        """Whether every job that has work was measured."""
        return all(j.vcpu_hours is not None for j in self.jobs if j.todo)

    @property
    def vcpu_hours(self) -> float:
        """CPU time of all jobs that were measured."""
        return sum(j.vcpu_hours or 0.0 for j in self.jobs)

    @property
    def cost(self) -> float:
        """In the currency of the price."""
        return self.vcpu_hours * self.price

    @property
    def eta_s(self) -> float:
        """Wall time if all vCPUs are kept busy."""
        return self.vcpu_hours * 3600 / self.vcpus


def estimate(graph: Graph, ledger: Ledger, tally: Tally, *, vcpus: int, price: float) -> Estimate:
    """Estimate what the work that a dry run found will take."""
    todo = {job: tally.jobs.get(job, {}).get(Status.TODO, 0) for job in graph.jobs}
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
            if job in tally.jobs
        ),
        vcpus=vcpus,
        price=price,
    )


def measure(
    graph: Graph, ledger: Ledger, jobs: Iterable[str]
) -> Mapping[str, tuple[int, float | None]]:
    """For each job, on how many files its CPU time is known, and the mean in seconds; old versions
    count if need be.
    """
    measured: dict[str, tuple[int, float | None]] = {}
    for job in jobs:
        found = ledger.find(Query(job=job, state=State.DONE), limit=MEASURED_ON)
        entries = [r.jobs[job] for r in found]
        fresh = [e for e in entries if e.fingerprint == graph.fingerprints[job]] or entries
        seconds = [e.cpu_seconds for e in fresh if e.cpu_seconds is not None]
        measured[job] = (len(seconds), sum(seconds) / len(seconds) if seconds else None)
    return measured
