"""What to do next: two pure functions, used by backfill, streaming, dry run and simulator; nothing else decides.

``line`` says what one file needs for some targets, parents first. ``decide`` says what a job does with a message.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.graph import Graph
from shared.ledger import current
from shared.message import Message
from shared.record import Entry, Lease, Record, State


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
    """Say what one file needs so that its targets are current: never a sibling, never what is already there.

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
        ``run`` is in topological order, and each parent of a job in it is current or stands before it.
    """
    verdicts: dict[str, Verdict] = {}
    blockers: dict[str, str] = {}
    holders: dict[str, Lease] = {}
    needed = _missing(graph, record, targets, force, verdicts)
    if not needed:
        return Line(verdicts=verdicts, blockers=blockers, holders=holders)
    for job in graph.upward(needed):
        if job not in needed:
            continue
        entry = record.jobs.get(job)
        if entry is not None and _held(entry, record, now, owner, lost):
            verdicts[job] = Verdict.HELD
            assert entry.lease is not None
            holders[job] = entry.lease
        elif not retry and job not in force and _failed(graph, record, job):
            verdicts[job] = Verdict.FAILED
        else:
            verdicts[job] = _below(graph, job, verdicts, blockers)
    run = _useful(graph, targets, needed, verdicts)
    return Line(run=run, verdicts=verdicts, blockers=blockers, holders=holders)


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


def _held(
    entry: Entry,
    record: Record,
    now: datetime,
    owner: str | None,
    lost: Callable[[Lease], bool],
) -> bool:
    """Whether somebody else is computing this very generation; one on an older one cannot harm it."""
    return (
        entry.state is State.RUNNING
        and entry.lease is not None
        and entry.generation == record.generation
        and entry.lease.owner != owner
        and entry.lease.expires_at > now
        and not lost(entry.lease)
    )


def _failed(graph: Graph, record: Record, job: str) -> bool:
    """Whether a job failed on just what it would be run on now; a new version of it deserves a new try."""
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
    """Of the jobs that could run, those that lead to a target which is not blocked; the others become idle."""
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
    """Nothing is to be done; acknowledge."""

    reason: str


@dataclass(frozen=True, slots=True)
class Forward:
    """The result is there; tell these children."""

    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Results above are missing; ask these parents, and leave the targets with them."""

    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody computes this, or something above it; the targets are left there."""

    holder: str


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

    Returns
    -------
    Drop, Forward, Ask, Wait or Run
        Only one of them; ``Ask`` and ``Wait`` leave the targets in the ledger, so that whoever finishes the parent
        tells this job again.
    """
    job = message.job
    if reason := _refusal(graph, record, message):
        return Drop(reason)
    assert record is not None
    children = tuple(c for c in graph.children[job] if graph.on_line(c, message.targets))
    if message.ping or (current(graph, record, job) and not _forced(record, message)):
        return Forward(children)
    entry = record.jobs.get(job)
    if entry is not None and _held(entry, record, now, owner, lost):
        assert entry.lease is not None
        return Wait(entry.lease.owner)
    if _failed(graph, record, job) and not message.force:
        return Drop("failed")
    return _look_up(graph, record, job, now, owner, lost)


def _refusal(graph: Graph, record: Record | None, message: Message) -> str | None:
    """Why a message is not for this job, this graph, or this version of the file."""
    unknown = [t for t in (message.job, *(message.targets or ())) if t not in graph.jobs]
    if unknown:
        return f"unknown job {unknown[0]}"
    if not graph.on_line(message.job, message.targets):
        return "off the line"
    if record is None:
        return "unknown file"
    if record.deleted_at is not None:
        return "deleted"
    if record.generation != message.generation:
        return "superseded"
    return None


def _forced(record: Record, message: Message) -> bool:
    """Whether the message forces this job; a repeated message does not force it again."""
    if not message.force or (message.targets is not None and message.job not in message.targets):
        return False
    entry = record.jobs.get(message.job)
    return entry is None or message.request is None or entry.request != message.request


def _look_up(
    graph: Graph,
    record: Record,
    job: str,
    now: datetime,
    owner: str | None,
    lost: Callable[[Lease], bool],
) -> Decision:
    """Look at the parents of a job that is free and missing."""
    missing = [p for p in graph.jobs[job].parents if not current(graph, record, p)]
    if not missing:
        return Run()
    above = line(graph, record, missing, now=now, owner=owner, lost=lost)
    for parent in missing:
        if above.verdicts[parent] in (Verdict.FAILED, Verdict.BLOCKED):
            return Drop(f"blocked by {above.blockers.get(parent, parent)}")
    free = tuple(p for p in missing if above.verdicts[p] is not Verdict.HELD)
    if free:
        return Ask(free)
    return Wait(above.holders[missing[0]].owner)
