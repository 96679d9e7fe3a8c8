"""What to do next: two pure functions for backfill, streaming, dry run and simulator.

``line`` says what one file needs for some targets, parents first. ``decide`` says what a job does
with a message. Nothing else decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from segue.model.graph import Graph
from segue.model.ledger import current, reopen, want
from segue.model.message import Message
from segue.model.record import Lease, Record, State


def never(_lease: Lease) -> bool:
    """No lease is lost before it expires: what is assumed where owners cannot be looked at."""
    return False


class Verdict(StrEnum):
    """What is to be done about one job of one file."""

    RUN = "run"
    CURRENT = "current"  # the result is there
    HELD = "held"  # somebody else is computing it
    WAITING = "waiting"  # something above it is held
    FAILED = "failed"  # it failed before, and nobody asked to try again
    BLOCKED = "blocked"  # something above it failed before
    IDLE = "idle"  # missing, but no target can be reached through it for now


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The direct line of some targets for one file."""

    run: tuple[str, ...] = ()  # to compute now, parents first
    verdicts: Mapping[str, Verdict]  # of each job that was looked at
    blockers: Mapping[str, str]  # blocked job → the failed job above it
    holders: Mapping[str, Lease]  # held job → who holds it


def line(
    graph: Graph,
    record: Record,
    targets: Collection[str],
    *,
    now: datetime,
    force: Collection[str] = (),
    retry: bool = False,
    owner: str | None = None,
    lost: Callable[[Lease], bool] = never,
) -> Line:
    """Say what a file needs so that its targets are current: no sibling, nothing that is there.

    Parameters
    ----------
    graph : Graph
    record : Record
        The file, as the ledger has it.
    targets : collection of str
        The jobs whose results are wanted.
    now : datetime
        Leases that expired before are free.
    force : collection of str
        Targets to compute even if they are current. Their parents are not.
    retry : bool
        Whether jobs that failed before are tried again.
    owner : str, optional
        Whose leases do not count as held: an owner may go on with its own work.
    lost : callable
        Tells whether a lease's owner is known to be dead.

    Returns
    -------
    Line
        ``run`` is in topological order; each parent of a job in it is current or stands before it.
    """
    if not record.jobs:
        return _new(graph, targets)
    verdicts: dict[str, Verdict] = {}
    blockers: dict[str, str] = {}
    holders: dict[str, Lease] = {}
    needed = _missing(graph, record, targets, force, verdicts)
    if not needed:
        return Line(verdicts=verdicts, blockers=blockers, holders=holders)
    for job in graph.upward(needed):
        if job not in needed:
            continue
        lease = _holder(record, job, now, owner, lost)
        if lease is not None:
            verdicts[job] = Verdict.HELD
            holders[job] = lease
        elif not retry and job not in force and _failed(graph, record, job):
            verdicts[job] = Verdict.FAILED
        else:
            verdicts[job] = _below(graph, job, verdicts, blockers)
    run = _useful(graph, targets, needed, verdicts)
    return Line(run=run, verdicts=verdicts, blockers=blockers, holders=holders)


def _new(graph: Graph, targets: Collection[str]) -> Line:
    """The line of a file of which nothing is known yet; it is the same for all of them."""
    key = ("line", tuple(targets))
    found = graph.memo.get(key)
    if found is None:
        run = graph.upward(targets)
        verdicts = dict.fromkeys(run, Verdict.RUN)
        found = graph.memo[key] = Line(run=run, verdicts=verdicts, blockers={}, holders={})
    assert isinstance(found, Line)
    return found


def _missing(
    graph: Graph,
    record: Record,
    targets: Collection[str],
    force: Collection[str],
    verdicts: dict[str, Verdict],
) -> set[str]:
    """The targets that are not current, and upward from them every parent that is not."""
    needed: set[str] = set()
    stack = list(targets)
    while stack:
        job = stack.pop()
        if job in needed or job in verdicts:
            continue
        if job not in force and current(graph, record, job):
            verdicts[job] = Verdict.CURRENT
        else:
            needed.add(job)
            stack.extend(graph.jobs[job].parents)
    return needed


def _holder(
    record: Record, job: str, now: datetime, owner: str | None, lost: Callable[[Lease], bool]
) -> Lease | None:
    """Who else is computing this very generation, if anyone; one on an older one cannot harm it."""
    entry = record.jobs.get(job)
    if entry is None or entry.state is not State.RUNNING or entry.generation != record.generation:
        return None
    lease = entry.lease
    if lease is None or lease.owner == owner or lease.expires_at <= now or lost(lease):
        return None
    return lease


def _failed(graph: Graph, record: Record, job: str) -> bool:
    """Whether a job failed on just what it would be run on now; a new version is tried anew."""
    entry = record.jobs.get(job)
    return (
        entry is not None
        and entry.state is State.FAILED
        and entry.generation == record.generation
        and entry.fingerprint == graph.fingerprints[job]
    )


def _below(
    graph: Graph, job: str, verdicts: Mapping[str, Verdict], blockers: dict[str, str]
) -> Verdict:
    """What a free, missing job can do, given the verdicts on its parents."""
    waiting = False
    for parent in graph.jobs[job].parents:
        verdict = verdicts[parent]
        if verdict in (Verdict.FAILED, Verdict.BLOCKED):
            blockers[job] = blockers.get(parent, parent)
            return Verdict.BLOCKED
        waiting = waiting or verdict in (Verdict.HELD, Verdict.WAITING)
    return Verdict.WAITING if waiting else Verdict.RUN


def _useful(
    graph: Graph,
    targets: Collection[str],
    needed: Collection[str],
    verdicts: dict[str, Verdict],
) -> tuple[str, ...]:
    """Of the jobs that could run, those that lead to a target that can be reached; others idle."""
    useful: set[str] = set()
    for job in reversed(graph.upward(needed)):
        if job not in needed or verdicts[job] not in (Verdict.RUN, Verdict.WAITING):
            continue
        if job in targets or any(c in useful for c in graph.children[job]):
            useful.add(job)
        else:
            verdicts[job] = Verdict.IDLE
    return tuple(
        job for job in graph.upward(needed) if job in useful and verdicts[job] is Verdict.RUN
    )


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing can be done; acknowledge."""

    reason: str
    cause: str | None = None  # the job that failed, this one or one above; that blocks this one
    children: tuple[str, ...] = ()  # to be told, so that the cause is recorded there, too


@dataclass(frozen=True, slots=True)
class Forward:
    """The result is there, or is not needed; tell these children."""

    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Results above are missing; ask these parents, and leave the targets with them."""

    parents: tuple[str, ...]
    targets: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody computes this job, or one right above it; leave the targets there."""

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
    lost: Callable[[Lease], bool] = never,
) -> Decision:
    """Say what a job does with a message, given the record of the message's file.

    It is run exactly if it stands in the ``line`` of the message's targets and all its parents are
    current. Where it does not stand in the line, because a result further down is there already, or
    is being computed, or cannot be reached, the message passes.

    Returns
    -------
    Drop, Forward, Ask, Wait or Run
        Only one of them; with ``Ask`` and ``Wait``, targets are to be left in the ledger
        (``leave``), so that whoever finishes the parent tells this job again.
    """
    if record is None:
        return Drop("unknown file")
    if reason := _refusal(graph, record, message):
        return Drop(reason)
    job = message.job
    children = tuple(c for c in graph.children[job] if graph.on_line(c, message.targets))
    targets = (job,) if message.targets is None else _known(graph, message.targets)
    force = tuple(t for t in targets if forced(record, message, t))
    plan = line(graph, record, targets, now=now, force=force, owner=owner, lost=lost)
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
            return _look_up(graph, plan, message)


def leave(
    graph: Graph, record: Record, message: Message, decision: Ask | Wait, now: datetime
) -> Record:
    """Leave targets with the jobs that were asked or are waited for.

    What the message forces counts as missing from now on: the targets travel on without their
    force.
    """
    jobs = decision.parents if isinstance(decision, Ask) else (decision.job,)
    for job in jobs:
        record = want(record, graph, job, decision.targets, now)
    for job in _known(graph, message.targets or _and_below(graph, message.job)):
        if forced(record, message, job):
            record = reopen(record, graph, job, message.request)
    return record


def _refusal(graph: Graph, record: Record, message: Message) -> str | None:
    """Why a message is not for this job, this graph, or this version of the file."""
    if message.job not in graph.jobs:
        return f"unknown job {message.job}"
    if message.targets and not _known(graph, message.targets):
        return f"unknown job {message.targets[0]}"
    if not graph.on_line(message.job, message.targets):
        return "off the line"
    if record.deleted_at is not None:
        return "deleted"
    return "superseded" if record.generation != message.generation else None


def _and_below(graph: Graph, job: str) -> tuple[str, ...]:
    """A job and all that depends on it, in topological order."""
    below = graph.descendants(job)
    return (job, *(name for name in graph.jobs if name in below))


def _known(graph: Graph, targets: Collection[str]) -> tuple[str, ...]:
    """Targets without those that the graph has lost since they were asked for."""
    return tuple(t for t in targets if t in graph.jobs)


def forced(record: Record, message: Message, target: str) -> bool:
    """Whether the message forces a target, as a repeated or an earlier request does not again."""
    entry = record.jobs.get(target)
    if entry is None or entry.request is None or message.request is None:
        return message.force
    return message.force and entry.request < message.request


def _look_up(graph: Graph, plan: Line, message: Message) -> Decision:
    """Look at the parents of a job that is to run."""
    job = message.job
    parents = graph.jobs[job].parents
    free = tuple(p for p in parents if plan.verdicts[p] in (Verdict.RUN, Verdict.WAITING))
    held = tuple(p for p in parents if plan.verdicts[p] is Verdict.HELD)
    if not free and not held:
        return Run()
    # To the parents, "everything" is what stands here and below; their other children were not
    # asked for.
    targets = _and_below(graph, job) if message.targets is None else message.targets
    if free:
        return Ask(free, targets)
    return Wait(plan.holders[held[0]].owner, held[0], targets)
