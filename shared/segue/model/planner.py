"""The planner: two pure functions that decide what to do, for backfill, streaming and dry runs.

``plan_line`` lists the jobs that one file needs for some targets, parents first. ``decide`` says
what a job does with a message. Nothing else decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from segue.errors import Kind
from segue.model.graph import Graph
from segue.model.message import Message
from segue.model.record import Lease, Record, State
from segue.model.transitions import add_pending, is_current, reopen


def assume_alive(_lease: Lease) -> bool:
    """Return False: where owners cannot be checked, no lease is lost before it expires."""
    return False


class Verdict(StrEnum):
    """What to do about one job of one file."""

    RUN = "run"
    CURRENT = "current"  # the result is there
    HELD = "held"  # another process is computing it
    WAITING = "waiting"  # something above it is held
    FAILED = "failed"  # it failed before, and no retry was requested
    BLOCKED = "blocked"  # something above it failed before
    IDLE = "idle"  # missing, but it leads to no target that can be reached for now


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one file needs for some targets."""

    run: tuple[str, ...] = ()  # to compute now, parents first
    verdicts: Mapping[str, Verdict]  # of each job that was checked
    blockers: Mapping[str, str]  # blocked job → the failed job above it
    holders: Mapping[str, Lease]  # held job → who holds it


def plan_line(
    graph: Graph,
    record: Record,
    targets: Collection[str],
    *,
    now: datetime,
    force: Collection[str] = (),
    retry: bool = False,
    retry_transient: bool = False,
    owner: str | None = None,
    lost: Callable[[Lease], bool] = assume_alive,
) -> Line:
    """List the jobs to run on a file so that its targets are current: no siblings, nothing current.

    Parameters
    ----------
    graph : Graph
    record : Record
        The file's record in the ledger.
    targets : collection of str
        The jobs whose results are needed.
    now : datetime
        Leases that expired before it are free.
    force : collection of str
        Targets to compute even if they are current; their parents are not forced.
    retry : bool
        Whether to try jobs again that failed before.
    retry_transient : bool
        Whether to try those again whose failure may be over, such as for lack of space.
    owner : str, optional
        The owner whose leases do not count as held: it may go on with its own work.
    lost : callable
        Returns whether a lease's owner is known to be dead.

    Returns
    -------
    Line
        ``run`` is in topological order; each parent of a job in it is current or comes before it.
    """
    verdicts: dict[str, Verdict] = {}
    blockers: dict[str, str] = {}
    holders: dict[str, Lease] = {}
    missing = _find_missing(graph, record, targets, force, verdicts)
    for job in missing:
        lease = _find_holder(record, job, now, owner, lost)
        if lease is not None:
            verdicts[job] = Verdict.HELD
            holders[job] = lease
        elif (
            not retry
            and job not in force
            and _has_failed(graph, record, job, but_transient=retry_transient)
        ):
            verdicts[job] = Verdict.FAILED
        else:
            verdicts[job] = _find_verdict(graph, job, verdicts, blockers)
    run = _select_useful(graph, targets, missing, verdicts)
    return Line(run=run, verdicts=verdicts, blockers=blockers, holders=holders)


def _find_missing(
    graph: Graph,
    record: Record,
    targets: Collection[str],
    force: Collection[str],
    verdicts: dict[str, Verdict],
) -> list[str]:
    """List the targets that are not current, and the parents above them that are not, in order."""
    needed: set[str] = set()
    stack = list(targets)
    while stack:
        job = stack.pop()
        if job in needed or job in verdicts:
            continue
        if job not in force and is_current(graph, record, job):
            verdicts[job] = Verdict.CURRENT
        else:
            needed.add(job)
            stack.extend(graph.jobs[job].parents)
    return [job for job in graph.jobs if job in needed]


def _find_holder(
    record: Record, job: str, now: datetime, owner: str | None, lost: Callable[[Lease], bool]
) -> Lease | None:
    """Return the lease of another owner on this generation; one on an older one does no harm."""
    entry = record.jobs.get(job)
    if entry is None or entry.state is not State.RUNNING or entry.generation != record.generation:
        return None
    lease = entry.lease
    if lease is None or lease.owner == owner or lease.expires_at <= now or lost(lease):
        return None
    return lease


def _has_failed(graph: Graph, record: Record, job: str, *, but_transient: bool) -> bool:
    """Return whether a job failed with this generation and fingerprint; new ones are tried."""
    entry = record.jobs.get(job)
    return (
        entry is not None
        and not (but_transient and entry.error is not None and entry.error.kind == Kind.NO_SPACE)
        and entry.state is State.FAILED
        and entry.generation == record.generation
        and entry.fingerprint == graph.fingerprints[job]
    )


def _find_verdict(
    graph: Graph, job: str, verdicts: Mapping[str, Verdict], blockers: dict[str, str]
) -> Verdict:
    """Return the verdict on a free, missing job, given the verdicts on its parents."""
    waiting = False
    for parent in graph.jobs[job].parents:
        verdict = verdicts[parent]
        if verdict in (Verdict.FAILED, Verdict.BLOCKED):
            blockers[job] = blockers.get(parent, parent)
            return Verdict.BLOCKED
        waiting = waiting or verdict in (Verdict.HELD, Verdict.WAITING)
    return Verdict.WAITING if waiting else Verdict.RUN


def _select_useful(
    graph: Graph,
    targets: Collection[str],
    missing: Sequence[str],
    verdicts: dict[str, Verdict],
) -> tuple[str, ...]:
    """Return the jobs to run that lead to a target that can be reached; mark others idle."""
    useful: set[str] = set()
    for job in reversed(missing):
        if verdicts[job] not in (Verdict.RUN, Verdict.WAITING):
            continue
        if job in targets or any(c in useful for c in graph.children[job]):
            useful.add(job)
        else:
            verdicts[job] = Verdict.IDLE
    return tuple(job for job in missing if job in useful and verdicts[job] is Verdict.RUN)


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing can be done; acknowledge."""

    reason: str
    cause: str | None = None  # the job that failed: this one, or one above that blocks it
    children: tuple[str, ...] = ()  # to notify, so that the cause is recorded there, too


@dataclass(frozen=True, slots=True)
class Forward:
    """The result is there, or is not needed; notify these children."""

    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Results above are missing; send a message to these parents, and add the targets to theirs."""

    parents: tuple[str, ...]
    targets: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Wait:
    """This job, or one right above it, is being computed; add the targets there."""

    holder: str
    job: str  # the one that is being computed
    targets: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Run:
    """Compute it."""


Decision = Drop | Forward | Ask | Wait | Run


def decide(
    graph: Graph,
    record: Record | None,
    message: Message,
    now: datetime,
    *,
    owner: str | None = None,
    lost: Callable[[Lease], bool] = assume_alive,
) -> Decision:
    """Decide what a job does with a message, given the record of the message's file.

    The job runs if and only if it is in the line of the message's targets and all its parents are
    current. If it is not in the line, because a result further down is already there, is being
    computed or cannot be reached, the message is forwarded.

    Returns
    -------
    Drop, Forward, Ask, Wait or Run
        Exactly one. With ``Ask`` and ``Wait``, the caller records the targets in the ledger
        (``register_targets``), so that whoever finishes the parent notifies this job again.
    """
    if record is None:
        return Drop("unknown file")
    if reason := _find_refusal(graph, record, message):
        return Drop(reason)
    job = message.job
    children = tuple(c for c in graph.children[job] if graph.is_on_line(c, message.targets))
    targets = (job,) if message.targets is None else _filter_known(graph, message.targets)
    force = tuple(t for t in targets if is_forced(record, message, t))
    plan = plan_line(graph, record, targets, now=now, force=force, owner=owner, lost=lost)
    verdict = Verdict.IDLE if message.ping else plan.verdicts.get(job, Verdict.IDLE)
    match verdict:
        case Verdict.CURRENT | Verdict.IDLE:
            return Forward(children)
        case Verdict.FAILED | Verdict.BLOCKED:
            cause = plan.blockers.get(job, job)
            return Drop("failed" if cause == job else f"blocked by {cause}", cause, children)
        case Verdict.HELD:
            return Wait(plan.holders[job].owner, job, message.targets)
        case Verdict.RUN | Verdict.WAITING:
            return _check_parents(graph, plan, message)


def register_targets(
    graph: Graph, record: Record, message: Message, decision: Ask | Wait, now: datetime
) -> Record:
    """Add a message's targets to the pending ones of the jobs that it asks or waits for.

    Results that the message forces count as missing from now on, because the pending targets do
    not say that they are forced.
    """
    jobs = decision.parents if isinstance(decision, Ask) else (decision.job,)
    for job in jobs:
        record = add_pending(record, graph, job, decision.targets, now)
    for job in _filter_known(graph, message.targets or _list_with_descendants(graph, message.job)):
        if is_forced(record, message, job):
            record = reopen(record, graph, job, message.request)
    return record


def _find_refusal(graph: Graph, record: Record, message: Message) -> str | None:
    """Return why a message does not apply to this job, graph or version of the file."""
    if message.job not in graph.jobs:
        return f"unknown job {message.job}"
    if message.targets and not _filter_known(graph, message.targets):
        return f"unknown job {message.targets[0]}"
    if not graph.is_on_line(message.job, message.targets):
        return "off the line"
    if record.deleted_at is not None:
        return "deleted"
    return "superseded" if record.generation != message.generation else None


def _list_with_descendants(graph: Graph, job: str) -> tuple[str, ...]:
    """Return a job and all that depend on it, in topological order."""
    below = graph.find_descendants(job)
    return (job, *(name for name in graph.jobs if name in below))


def _filter_known(graph: Graph, targets: Collection[str]) -> tuple[str, ...]:
    """Return the targets that are still in the graph."""
    return tuple(t for t in targets if t in graph.jobs)


def is_forced(record: Record, message: Message, target: str) -> bool:
    """Return whether a message forces a target; a repeated or an earlier request does not."""
    entry = record.jobs.get(target)
    if entry is None or entry.request is None or message.request is None:
        return message.force
    return message.force and entry.request < message.request


def _check_parents(graph: Graph, plan: Line, message: Message) -> Decision:
    """Decide by the parents of a job that is to run."""
    job = message.job
    parents = graph.jobs[job].parents
    free = tuple(p for p in parents if plan.verdicts[p] in (Verdict.RUN, Verdict.WAITING))
    held = tuple(p for p in parents if plan.verdicts[p] is Verdict.HELD)
    if not free and not held:
        return Run()
    # For the parents, "everything" means this job and those below it; their other children were
    # not asked for.
    targets = _list_with_descendants(graph, job) if message.targets is None else message.targets
    if free:
        return Ask(free, targets)
    return Wait(plan.holders[held[0]].owner, held[0], targets)
