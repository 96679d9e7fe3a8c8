"""The planner: a pure function that decides what a file needs, and the only place that decides.

Backfill, streaming, requests, the sweep and dry runs use it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from segue.model.graph import Graph
from segue.model.record import Entry, Lease, Record, State
from segue.model.transitions import find_entry, is_current, was_not_accepted

NO_STATES: Mapping[str, State | None] = {}
NO_JOBS: frozenset[str] = frozenset()


def is_never_lost(_lease: Lease) -> bool:
    """Return False: where owners cannot be checked, no lease is lost before it expires."""
    return False


class Verdict(StrEnum):
    """What to do about one job of one file."""

    RUN = "run"
    CURRENT = "current"  # the result is there
    HELD = "held"  # another process is computing it
    PAUSED = "paused"  # an operator has paused the job
    ELSEWHERE = "elsewhere"  # it can run, in another pipeline
    # Something above it is held or paused, or has to run first in another pipeline.
    WAITING = "waiting"
    FOREIGN = "foreign"  # something above it is missing in another namespace
    FAILED = "failed"  # it failed before, and no retry was requested
    BLOCKED = "blocked"  # something above it failed
    NOT_APPLICABLE = "not_applicable"  # it, or something above it, is not for this file
    IDLE = "idle"  # missing, but it leads to no target that can be reached for now


OPEN = frozenset({Verdict.RUN, Verdict.PAUSED, Verdict.ELSEWHERE, Verdict.WAITING, Verdict.FOREIGN})
_READY = frozenset({Verdict.CURRENT, Verdict.RUN})
_STARTS = frozenset({Verdict.RUN, Verdict.ELSEWHERE})
_REFUSALS = {
    State.FAILED: Verdict.FAILED,
    State.BLOCKED: Verdict.BLOCKED,
    State.NOT_APPLICABLE: Verdict.NOT_APPLICABLE,
}
# By the verdict on a parent: that on a job below, in the order in which they count.
_INHERITED = {
    Verdict.FAILED: Verdict.BLOCKED,
    Verdict.BLOCKED: Verdict.BLOCKED,
    Verdict.NOT_APPLICABLE: Verdict.NOT_APPLICABLE,
}
# A job that was never tried has its state from a job above, which may have another one now.
_VERDICTS_OF_ITS_OWN = frozenset({State.FAILED, State.NOT_APPLICABLE})


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one file needs for some targets."""

    run: tuple[str, ...] = ()  # to compute now, parents first
    elsewhere: tuple[str, ...] = ()  # to compute now in other pipelines
    verdicts: Mapping[str, Verdict]  # of each job that was checked
    blockers: Mapping[str, str]  # job that cannot run → the job above it that is why
    holders: Mapping[str, Lease]  # held job → who holds it
    # Waiting job → the held and paused ones, and those of other pipelines, that it waits for.
    waits_for: Mapping[str, frozenset[str]]


def plan(
    graph: Graph,
    record: Record,
    parent_states: Mapping[str, State | None],
    targets: Collection[str],
    now: datetime,
    owner: str | None = None,
    served: Collection[str] | None = None,
    lost: Callable[[Lease], bool] = is_never_lost,
    *,
    paused: Collection[str] = NO_JOBS,
) -> Plan:
    """List the jobs to run on a file so that its targets are current: no siblings, nothing current.

    Parameters
    ----------
    graph : Graph
    record : Record
        The file's record in the ledger.
    parent_states : mapping of str to State or None
        The states of parents that are jobs of other namespaces; None: not there.
    targets : collection of str
        The jobs whose results are needed.
    now : datetime
        Leases that expired before it are free.
    owner : str, optional
        The owner whose leases do not count as held: it may go on with its own work.
    served : collection of str, optional
        The jobs that may run here; None: all.
    lost : callable
        Returns whether a lease's owner is known to be dead.
    paused : collection of str, optional
        The jobs that run nowhere for now.

    Returns
    -------
    Plan
        ``run`` is in topological order; each parent of a job in it is current or comes before it.
    """
    verdicts: dict[str, Verdict] = {}
    missing = _find_missing(graph, record, parent_states, targets, verdicts)
    if not missing:
        return Plan(verdicts=verdicts, blockers={}, holders={}, waits_for={})
    blockers: dict[str, str] = {}
    holders: dict[str, Lease] = {}
    waits_for: dict[str, frozenset[str]] = {}
    for job in missing:
        entry = find_entry(graph, record, job)
        lease = _find_holder(entry, now, owner, lost)
        if lease is not None:
            verdicts[job] = Verdict.HELD
            holders[job] = lease
        elif entry is not None and _is_refused(graph, job, entry):
            verdicts[job] = _REFUSALS[entry.state]
        else:
            verdicts[job] = _judge(graph, job, verdicts, blockers, waits_for, served)
            if job in paused and verdicts[job] in _STARTS:
                verdicts[job] = Verdict.PAUSED
    useful = _select_useful(graph, targets, missing, verdicts)
    return Plan(
        run=tuple(job for job in useful if verdicts[job] is Verdict.RUN),
        elsewhere=tuple(job for job in useful if verdicts[job] is Verdict.ELSEWHERE),
        verdicts=verdicts,
        blockers=blockers,
        holders=holders,
        waits_for=waits_for,
    )


def _is_refused(graph: Graph, job: str, entry: Entry) -> bool:
    """Whether a job failed, or is not for the file; what it accepts may have changed since."""
    if not entry.attempts or entry.state not in _VERDICTS_OF_ITS_OWN:
        return False
    if entry.error is None or not was_not_accepted(entry):
        return True
    return not graph.jobs[job].is_accepted(entry.error.type.split())


def find_needed_foreign(graph: Graph, record: Record, targets: Collection[str]) -> tuple[str, ...]:
    """Return the jobs of other namespaces whose states the plan for some targets depends on."""
    reached: dict[str, Verdict] = {}
    _find_missing(graph, record, NO_STATES, targets, reached)
    return tuple(reference for reference in graph.foreign if reference in reached)


def _find_missing(
    graph: Graph,
    record: Record,
    parent_states: Mapping[str, State | None],
    targets: Collection[str],
    verdicts: dict[str, Verdict],
) -> list[str]:
    """List the targets that are not current, and the parents above them that are not, in order."""
    needed: set[str] = set()
    stack = list(targets)
    while stack:
        job = stack.pop()
        if job in needed or job in verdicts:
            continue
        if job not in graph.jobs:
            verdicts[job] = _judge_foreign(parent_states.get(job))
        elif is_current(graph, record, job):
            verdicts[job] = Verdict.CURRENT
        else:
            needed.add(job)
            stack.extend(graph.jobs[job].parents)
    return [job for job in graph.jobs if job in needed] if needed else []


def _judge_foreign(state: State | None) -> Verdict:
    """Return the verdict on a parent in another namespace."""
    if state is State.DONE:
        return Verdict.CURRENT
    return Verdict.FOREIGN if state is None else _REFUSALS.get(state, Verdict.FOREIGN)


def _find_holder(
    entry: Entry | None, now: datetime, owner: str | None, lost: Callable[[Lease], bool]
) -> Lease | None:
    """Return the lease of another owner that is alive."""
    lease = entry.lease if entry is not None else None
    if lease is None or lease.owner == owner or lease.expires_at <= now or lost(lease):
        return None
    return lease


def _judge(
    graph: Graph,
    job: str,
    verdicts: Mapping[str, Verdict],
    blockers: dict[str, str],
    waits_for: dict[str, frozenset[str]],
    served: Collection[str] | None,
) -> Verdict:
    """Return the verdict on a free, missing job, given the verdicts on its parents."""
    parents = graph.jobs[job].parents
    is_served = served is None or job in served
    if is_served and all(verdicts[parent] in _READY for parent in parents):
        return Verdict.RUN
    if (refusing := _find_refusing(parents, verdicts)) is not None:
        blockers[job] = blockers.get(refusing, refusing)
        return _INHERITED[verdicts[refusing]]
    waits: set[str] = set()
    for parent in parents:
        match verdicts[parent]:
            case Verdict.HELD | Verdict.ELSEWHERE | Verdict.PAUSED:
                waits.add(parent)
            case Verdict.WAITING:
                waits |= waits_for[parent]
            case Verdict.RUN if not is_served:
                waits.add(parent)
    if any(verdicts[parent] is Verdict.FOREIGN for parent in parents):
        return Verdict.FOREIGN
    if waits:
        waits_for[job] = frozenset(waits)
        return Verdict.WAITING
    return Verdict.RUN if is_served else Verdict.ELSEWHERE


def _find_refusing(parents: Sequence[str], verdicts: Mapping[str, Verdict]) -> str | None:
    """Return the parent because of which a job cannot run; failures come first."""
    for refusal in _INHERITED:
        for parent in parents:
            if verdicts[parent] is refusal:
                return parent
    return None


def _select_useful(
    graph: Graph,
    targets: Collection[str],
    missing: Sequence[str],
    verdicts: dict[str, Verdict],
) -> list[str]:
    """Return the open jobs that lead to a target that can be reached; mark others idle."""
    useful: set[str] = set()
    for job in reversed(missing):
        if verdicts[job] not in OPEN:
            continue
        if job in targets or any(c in useful for c in graph.children[job]):
            useful.add(job)
        else:
            verdicts[job] = Verdict.IDLE
    return [job for job in missing if job in useful]
