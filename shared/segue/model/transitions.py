"""The transitions of a record: pure functions from a record to the next one and an answer.

Every adapter of the ledger applies them atomically. They are written so that applying one again
does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from segue.model.graph import Graph
from segue.model.media_file import MediaFile
from segue.model.record import EVERYTHING, Entry, Failure, Lease, Ping, Record, State, evolve

# In place of the entry of a job that a record has none of.
NO_ENTRY = Entry(state=State.QUEUED, fingerprint="", generation=0)


class Arrival(StrEnum):
    """What an arrival event means for the ledger."""

    NEW = "new"
    NEWER = "newer"
    DUPLICATE = "duplicate"
    STALE = "stale"  # an older generation, or one that has since been deleted


def arrive(record: Record | None, media: MediaFile, now: datetime) -> tuple[Record, Arrival]:
    """Record that a version of a file has arrived; an older one never changes a newer record.

    Results of an older generation are dropped from the record; pending targets stay pending.
    """
    if record is not None:
        if media.generation < record.generation:
            return record, Arrival.STALE
        if media.generation == record.generation:
            stale = record.deleted_at is not None
            return record, Arrival.STALE if stale else Arrival.DUPLICATE
    arrived = Record(
        uri=media.uri,
        generation=media.generation,
        size_bytes=media.size_bytes,
        content_type=media.content_type,
        checksum=media.checksum,
        arrived_at=now,
        jobs={
            name: Entry(
                state=State.QUEUED,
                fingerprint=entry.fingerprint,
                generation=media.generation,
                pending_targets=entry.pending_targets,
                pending_at=now,
                request=entry.request,
            )
            for name, entry in (record.jobs if record is not None else {}).items()
            if entry.pending_targets
        },
    )
    return arrived, Arrival.NEW if record is None else Arrival.NEWER


def delete(record: Record | None, media: MediaFile, now: datetime) -> tuple[Record, bool]:
    """Leave a tombstone unless a newer generation has arrived; return whether one was written.

    Events arrive in any order, so the deleted file's arrival may still be on its way. An unknown
    file therefore gets a tombstone, too, and the deletion of a newer generation moves a tombstone
    up. In both cases the late arrival is stale.
    """
    if record is None:
        arrived, _ = arrive(None, media, now)
        return evolve(arrived, deleted_at=now), True
    if record.generation > media.generation:
        return record, False
    if record.deleted_at is not None and record.generation == media.generation:
        return record, False
    return evolve(record, generation=media.generation, deleted_at=now), True


def is_current(graph: Graph, record: Record, job: str) -> bool:
    """Return whether a job is done for this generation, with a fingerprint accepted today."""
    entry = record.jobs.get(job)
    return (
        entry is not None
        and entry.state is State.DONE
        and entry.generation == record.generation
        and entry.fingerprint in graph.accepted[job]
    )


def claim(
    record: Record,
    graph: Graph,
    jobs: Iterable[str],
    *,
    owner: str,
    now: datetime,
    lease_s: float,
    request: str | None = None,
) -> Record:
    """Give an owner the lease on jobs that the planner found free in this very record."""
    lease = Lease(owner=owner, expires_at=now + timedelta(seconds=lease_s))
    entries = dict(record.jobs)
    for job in jobs:
        old = entries.get(job, NO_ENTRY)
        fingerprint = graph.fingerprints[job]
        again = (
            old.fingerprint == fingerprint
            and old.generation == record.generation
            and old.state is not State.DONE
        )
        entries[job] = Entry(
            state=State.RUNNING,
            fingerprint=fingerprint,
            generation=record.generation,
            attempts=(old.attempts if again else 0) + 1,
            lease=lease,
            pending_targets=old.pending_targets,
            pending_at=old.pending_at,
            request=_find_latest(request, old.request),
            started_at=now,
        )
    return evolve(record, jobs=entries)


def _find_latest(*requests: str | None) -> str | None:
    """Return the latest of some requests: a result computed now is new enough for all."""
    return max((request for request in requests if request is not None), default=None)


def add_pending(
    record: Record, graph: Graph, job: str, targets: Iterable[str] | None, now: datetime
) -> Record:
    """Add to a job's pending targets, queueing the job if it is unknown or stale.

    Requests for the same job coalesce here.
    """
    old = record.jobs.get(job, NO_ENTRY)
    added = (EVERYTHING,) if targets is None else tuple(targets)
    pending = tuple(dict.fromkeys((*old.pending_targets, *added)))
    if old is NO_ENTRY or (old.state is State.DONE and not is_current(graph, record, job)):
        entry = Entry(
            state=State.QUEUED,
            fingerprint=graph.fingerprints[job],
            generation=record.generation,
            pending_targets=pending,
            pending_at=now,
            request=old.request,
        )
    else:
        entry = evolve(old, pending_targets=pending, pending_at=now)
    return evolve(record, jobs={**record.jobs, job: entry})


def reopen(record: Record, graph: Graph, job: str, request: str | None) -> Record:
    """Mark a result as missing that a request forces while a job above it has yet to run.

    The targets left with the job above do not say that they are forced; the missing result keeps
    that. A result that is being computed right now is new enough and stays.
    """
    old = record.jobs.get(job, NO_ENTRY)
    if old is NO_ENTRY or old.state in (State.DONE, State.FAILED):
        entry = Entry(
            state=State.QUEUED,
            fingerprint=graph.fingerprints[job],
            generation=record.generation,
            pending_targets=old.pending_targets,
            pending_at=old.pending_at,
            request=request,
        )
    else:
        entry = evolve(old, request=_find_latest(request, old.request))
    return evolve(record, jobs={**record.jobs, job: entry})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of running one job on one file."""

    job: str
    state: State  # DONE, FAILED or BLOCKED; QUEUED releases the lease, for another attempt
    artifact: str | None = None
    checksum: str | None = None
    error: Failure | None = None
    damaged: str | None = None  # the parent whose artifact is gone or has changed
    seconds: float | None = None
    cpu_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What ``settle`` did."""

    # Job → targets whose children are to be notified, and then cleared by ``clear_pending``.
    pending_targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Jobs whose results came too late: another owner took the lease, or the file changed.
    lost: tuple[str, ...] = ()


def settle(
    record: Record | None,
    *,
    generation: int,
    owner: str,
    results: Sequence[Result],
    claimed: Record | None = None,
) -> tuple[Record | None, Settled]:
    """Record results of an owner's jobs, clear their leases, and return the pending targets.

    A parent that a result found damaged is queued again, unless it has another result than in the
    record that was ``claimed``.

    A result changes nothing if another owner has taken its lease, or if the file has a newer
    generation. An expired lease that nobody has taken still counts.

    Targets stay pending until ``clear_pending``, as a process that dies in between has notified
    no child. That includes the targets of the message being processed: a second delivery of it may
    have left its targets here and been acknowledged, and then the message does not come again.
    """
    if record is None or record.generation != generation or record.deleted_at is not None:
        return None, Settled(lost=tuple(r.job for r in results))
    entries = dict(record.jobs)
    pending: dict[str, tuple[str, ...]] = {}
    lost: list[str] = []
    for result in results:
        old = entries.get(result.job)
        if old is None or old.lease is None or old.lease.owner != owner:
            lost.append(result.job)
            continue
        never_tried = result.state is State.BLOCKED
        entries[result.job] = evolve(
            old,
            state=result.state,
            lease=None,
            attempts=old.attempts - never_tried,
            artifact=result.artifact,
            checksum=result.checksum,
            error=result.error,
            seconds=result.seconds,
            cpu_seconds=result.cpu_seconds,
        )
        if old.pending_targets and result.state is not State.QUEUED:
            pending[result.job] = old.pending_targets
        if claimed is not None and result.damaged in claimed.jobs:
            parent = entries.get(result.damaged)
            if parent is not None and parent == claimed.jobs[result.damaged]:
                entries[result.damaged] = evolve(
                    parent, state=State.QUEUED, artifact=None, checksum=None
                )
    if len(lost) == len(results):
        return None, Settled(lost=tuple(lost))
    return evolve(record, jobs=entries), Settled(pending_targets=pending, lost=tuple(lost))


def clear_pending(
    record: Record | None, *, generation: int, targets: Mapping[str, Iterable[str]], now: datetime
) -> tuple[Record | None, None]:
    """Clear a job's pending targets whose children were notified.

    They stay pending while the job is being computed again.
    """
    if record is None or record.generation != generation:
        return None, None
    entries = dict(record.jobs)
    for job, notified in targets.items():
        entry = entries.get(job)
        if entry is not None and (entry.lease is None or entry.lease.expires_at <= now):
            cleared = frozenset(notified)
            left = tuple(t for t in entry.pending_targets if t not in cleared)
            pending_at = entry.pending_at if left else None
            entries[job] = evolve(entry, pending_targets=left, pending_at=pending_at)
    return (evolve(record, jobs=entries) if entries != record.jobs else None), None


def extend_leases(
    record: Record | None, *, owner: str, jobs: Iterable[str], expires_at: datetime
) -> tuple[Record | None, bool]:
    """Extend an owner's leases; return whether it still held any of them."""
    if record is None:
        return None, False
    entries = dict(record.jobs)
    held = False
    for job in jobs:
        entry = entries.get(job)
        if entry is not None and entry.lease is not None and entry.lease.owner == owner:
            until = max(expires_at, entry.lease.expires_at)
            entries[job] = evolve(entry, lease=Lease(owner=owner, expires_at=until))
            held = True
    return (evolve(record, jobs=entries) if held else None), held


def release(
    record: Record | None, *, owns: Callable[[Lease], bool]
) -> tuple[Record | None, tuple[str, ...]]:
    """Give up leases whose jobs were not finished, and return which jobs they were.

    A job that nobody waits for, and that was not tried before, leaves no trace.
    """
    entries = dict(record.jobs) if record is not None else {}
    released = []
    for job, entry in tuple(entries.items()):
        if entry.lease is None or not owns(entry.lease):
            continue
        released.append(job)
        if entry.attempts <= 1 and not entry.pending_targets and entry.request is None:
            del entries[job]
        else:
            attempts = max(entry.attempts - 1, 0)
            entries[job] = evolve(entry, state=State.QUEUED, lease=None, attempts=attempts)
    if record is None or not released:
        return None, ()
    return evolve(record, jobs=entries), tuple(released)


def record_ping(
    record: Record | None, *, generation: int, job: str, request: str, now: datetime
) -> tuple[Record | None, None]:
    """Record at a job that a ping reached it, keeping only the latest request's ping."""
    if record is None or record.generation != generation or record.deleted_at is not None:
        return None, None
    old = record.pings.get(job)
    if old is not None and old.request >= request:
        return None, None
    return evolve(record, pings={**record.pings, job: Ping(request=request, at=now)}), None


def requeue(record: Record | None, jobs: Iterable[str]) -> tuple[Record | None, tuple[str, ...]]:
    """Queue failed and blocked jobs again and return which ones they were."""
    if record is None:
        return None, ()
    entries = dict(record.jobs)
    again = []
    for job in jobs:
        entry = entries.get(job)
        if entry is not None and entry.state in (State.FAILED, State.BLOCKED):
            entries[job] = Entry(
                state=State.QUEUED,
                fingerprint=entry.fingerprint,
                generation=entry.generation,
                attempts=0,
                pending_targets=entry.pending_targets,
                pending_at=entry.pending_at,
                request=entry.request,  # or a repeated message would force it once more
            )
            again.append(job)
    return (evolve(record, jobs=entries) if again else None), tuple(again)
