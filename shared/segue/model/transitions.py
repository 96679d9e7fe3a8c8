"""The transitions of a record: pure functions from a record to the next one and an answer.

Every adapter of the ledger applies them atomically. They are written so that applying one again
does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from segue.errors import Reason
from segue.model.artifact import find_suffix
from segue.model.graph import Graph
from segue.model.media_file import MediaFile
from segue.model.record import (
    EVERYONE,
    FINISHED,
    NOBODY,
    UNFINISHED,
    Entry,
    Failure,
    Lease,
    Ping,
    Record,
    State,
    evolve,
)

MAX_REQUESTS = 16  # ids that are remembered of a result, or of a ping
MAX_EARLIER = 16  # contents of a file whose results are kept for when they come back
# How long after it was last asked for a result stays wanted if the graph has no such job: another
# deployment that shares the ledger may have it.
FORGET_AFTER = timedelta(days=1)


class Arrival(StrEnum):
    """What an arrival event means for the ledger."""

    NEW = "new"
    NEWER = "newer"
    DUPLICATE = "duplicate"
    STALE = "stale"  # an older version, or one that has since been deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of running one job on one file."""

    job: str
    state: State  # DONE, FAILED, BLOCKED or NOT_APPLICABLE; QUEUED: the lease is given up
    # By name, relative to the artifacts' location: the checksum of each artifact.
    artifacts: Mapping[str, str] = field(default_factory=dict)
    error: Failure | None = None
    damaged: str | None = None  # the parent whose artifact is gone or has changed
    seconds: float | None = None
    cpu_seconds: float | None = None


def arrive(record: Record | None, media: MediaFile, now: datetime) -> tuple[Record, Arrival]:
    """Record that a version of a file has arrived; an older one never changes a newer record.

    What is wanted of the old version is wanted of the new one. Where versions have no order of
    their own, a content may come back: its results are then current again. A file that was erased
    never does.
    """
    if record is None:
        return _build_record(media, media.order if media.order is not None else 1, now), Arrival.NEW
    if record.erased:
        return record, Arrival.STALE
    if media.order is None:
        if media.version == record.version:
            if record.deleted_at is not None:
                results = {f: _await_event(entry) for f, entry in record.results.items()}
                changes = {"deleted_at": None, "deleted_by": None, "stat": media.stat}
                return evolve(record, results=results, **changes), Arrival.NEWER
            if record.stat == media.stat:
                return record, Arrival.DUPLICATE
            return evolve(record, stat=media.stat), Arrival.DUPLICATE
        return _replace_content(record, media, now), Arrival.NEWER
    if media.order < record.order:
        return record, Arrival.STALE
    if media.order == record.order:
        return record, Arrival.DUPLICATE if record.deleted_at is None else Arrival.STALE
    wanted = _list_wanted(record, media.order, now)
    return evolve(_build_record(media, media.order, now), results=wanted), Arrival.NEWER


def _build_record(media: MediaFile, order: int, now: datetime) -> Record:
    return Record(
        uri=media.uri,
        version=media.version,
        order=order,
        stat=media.stat,
        size_bytes=media.size_bytes,
        content_type=media.content_type,
        checksum=media.checksum,
        arrived_at=now,
    )


def _list_wanted(record: Record, order: int, now: datetime) -> dict[str, Entry]:
    """Return the results of a record that are wanted, queued for another version."""
    return {
        fingerprint: Entry(
            job=entry.job,
            state=State.QUEUED,
            order=order,
            notify=entry.notify,
            notify_at=now,
            requests=entry.requests,
        )
        for fingerprint, entry in record.results.items()
        if entry.notify
    }


def _replace_content(record: Record, media: MediaFile, now: datetime) -> Record:
    """Return the record of another content, and keep what is done of the old one.

    What is being computed of the old one comes too late, even if that content comes back before.
    """
    order = record.order + 1
    done = {
        fingerprint: evolve(entry, notify=(), notify_at=None)
        for fingerprint, entry in record.results.items()
        if entry.state is State.DONE
    }
    earlier = {v: kept for v, kept in record.earlier.items() if v != media.version}
    if done:
        earlier[record.version] = done
    for forgotten in list(earlier)[:-MAX_EARLIER]:
        del earlier[forgotten]
    results = _list_wanted(record, order, now)
    for fingerprint, entry in record.earlier.get(media.version, {}).items():
        notify = _strip(results.get(fingerprint, entry).notify)
        results[fingerprint] = evolve(
            _await_event(entry), order=order, notify=notify, notify_at=now if notify else None
        )
    return evolve(_build_record(media, order, now), results=results, earlier=earlier)


def _await_event(entry: Entry) -> Entry:
    """Return a result of a content that is back, of which the next event is to notify.

    Otherwise none would, if it was computed for no event and all were notified of it before.
    """
    return evolve(entry, triggered_by=None) if entry.triggered_by == EVERYONE else entry


def delete(
    record: Record | None, media: MediaFile, now: datetime, *, event: str | None = None
) -> tuple[Record | None, bool]:
    """Leave a tombstone unless a newer version has arrived; return whether one was written.

    The ``event`` of another namespace that brings it is recorded, as that event alone passes it on.

    Events arrive in any order, so the deleted file's arrival may still be on its way. An unknown
    file therefore gets a tombstone, too, and the deletion of a newer version moves a tombstone up.
    In both cases the late arrival is stale.
    """
    if record is not None and record.erased:
        return record, False
    if media.order is None:
        if record is None or record.deleted_at is not None:
            return record, False
        return evolve(record, deleted_at=now, deleted_by=event), True
    if record is None:
        record = _build_record(media, media.order, now)
        return evolve(record, deleted_at=now, deleted_by=event), True
    if record.order > media.order:
        return record, False
    if record.deleted_at is not None and record.order == media.order:
        return record, False
    changes = {"version": media.version, "order": media.order}
    return evolve(record, deleted_at=now, deleted_by=event, **changes), True


def erase(
    record: Record | None, media: MediaFile, now: datetime, *, event: str | None = None
) -> tuple[Record | None, bool]:
    """Leave a tombstone that no version ever replaces; return whether it was written."""
    if record is not None and record.erased:
        return record, False
    if record is None:
        record = _build_record(media, media.order if media.order is not None else 1, now)
    deleted_at = record.deleted_at or now
    return evolve(record, deleted_at=deleted_at, deleted_by=event, erased=True), True


def forget_results(
    record: Record | None, *, is_held: Callable[[Lease], bool]
) -> tuple[Record | None, tuple[str, ...]]:
    """Remove the results of a file that was erased; return the jobs that still run.

    Those stay until their workers, who remove what they have written, forget them.
    """
    if record is None or not record.erased:
        return None, ()
    held = {f: e for f, e in record.results.items() if e.lease is not None and is_held(e.lease)}
    kept = evolve(record, results=held, earlier={}, pings={})
    return (kept if kept != record else None), tuple(entry.job for entry in held.values())


def find_current(graph: Graph, record: Record, job: str) -> str | None:
    """Return the fingerprint of a job's result that counts as current, or None if there is none."""
    for fingerprint in graph.accepted[job]:
        entry = record.results.get(fingerprint)
        if entry is not None and entry.state is State.DONE and entry.order == record.order:
            return fingerprint
    return None


def is_current(graph: Graph, record: Record, job: str) -> bool:
    """Return whether a job is done for this version, with a fingerprint accepted today."""
    return find_current(graph, record, job) is not None


def find_entry(graph: Graph, record: Record, job: str) -> Entry | None:
    """Return the entry of a job as the graph now defines it, of this version of the file."""
    entry = record.results.get(graph.fingerprints[job])
    return entry if entry is not None and entry.order == record.order else None


def claim(
    record: Record, graph: Graph, jobs: Iterable[str], *, owner: str, now: datetime, lease_s: float
) -> Record:
    """Give an owner the lease on jobs that the planner found free in this very record."""
    lease = Lease(owner=owner, expires_at=now + timedelta(seconds=lease_s))
    results = dict(record.results)
    for job in jobs:
        old = find_entry(graph, record, job) or _build_entry(record, job)
        notify = _list_waiting(old, graph)
        results[graph.fingerprints[job]] = Entry(
            job=job,
            state=State.RUNNING,
            order=record.order,
            attempts=_count_attempts(old, owner),
            lease=lease,
            notify=notify,
            notify_at=old.notify_at if notify == old.notify else now,
            requests=old.requests,
            started_at=now,
        )
    return evolve(record, results=results)


def _list_waiting(old: Entry, graph: Graph) -> tuple[str, ...]:
    """Return whom to notify of a job that is to run.

    If it comes to accept a file, those who were told that it does not are to hear of it.
    """
    if old.triggered_by is None or not was_not_accepted(old) or not graph.has_readers(old.job):
        return old.notify
    return tuple(dict.fromkeys((*old.notify, EVERYONE)))


def was_not_accepted(entry: Entry) -> bool:
    """Whether a job was not for a file because of the file's types."""
    return entry.error is not None and entry.error.kind == Reason.NOT_ACCEPTED


def _count_attempts(old: Entry, owner: str) -> int:
    """Return the number of the attempt that an owner begins; claiming again begins none."""
    if old.lease is not None and old.lease.owner == owner:
        return old.attempts
    return (0 if old.state is State.DONE else old.attempts) + 1


def _build_entry(record: Record, job: str) -> Entry:
    return Entry(job=job, state=State.QUEUED, order=record.order)


def want(record: Record, graph: Graph, jobs: Iterable[str], whom: str, now: datetime) -> Record:
    """Note whom to notify once jobs are finished, queueing those that nobody works on.

    Requests for the same result coalesce here.
    """
    results = dict(record.results)
    for job in jobs:
        old = find_entry(graph, record, job) or _build_entry(record, job)
        if whom in old.notify and old.state in UNFINISHED:
            continue
        if old.state in FINISHED:
            waiting = _list_waiting(old, graph)
            old = evolve(_build_entry(record, job), notify=waiting, requests=old.requests)
        notify = tuple(dict.fromkeys((*old.notify, whom)))
        results[graph.fingerprints[job]] = evolve(old, notify=notify, notify_at=now)
    return evolve(record, results=results) if results != record.results else record


def reopen(
    record: Record,
    graph: Graph,
    jobs: Iterable[str],
    *,
    request: str,
    now: datetime,
    states: Collection[State] | None = None,
) -> tuple[Record, tuple[str, ...]]:
    """Have results computed again, once for each request; return the jobs that are reopened.

    This is how a request forces a result, or retries a failed one: it counts as missing from now
    on. Clocks differ, so ids say nothing about which request is the later one. A result that is
    being computed is fresh enough and stays. ``states`` limits the results to those in some
    states; None: all, and those that are missing.
    """
    results = dict(record.results)
    reopened = []
    for job in jobs:
        old = find_entry(graph, record, job)
        if states is not None and (old is None or old.state not in states):
            continue
        known = old.requests if old is not None else ()
        accepted = [results[f] for f in graph.accepted[job] if f in results]
        if any(request in e.requests for e in accepted if e.order == record.order):
            continue
        requests = (*known, request)[-MAX_REQUESTS:]
        own = graph.fingerprints[job]
        if old is not None and old.state is State.RUNNING:
            results[own] = evolve(old, requests=requests)
            continue
        found = [old] if old is not None else []
        found += [  # else an equivalent result would count
            results.pop(fingerprint)
            for fingerprint in graph.accepted[job][1:]
            if fingerprint in results and results[fingerprint].state is State.DONE
        ]
        whom = [whom for entry in found for whom in entry.notify]
        if any(entry.triggered_by for entry in found) and _is_awaited_elsewhere(graph, job):
            whom.append(EVERYONE)
        results[own] = evolve(
            _build_entry(record, job),
            notify=tuple(dict.fromkeys((*whom, NOBODY))),
            notify_at=now,
            requests=requests,
        )
        reopened.append(job)
    return (evolve(record, results=results) if results != record.results else record), tuple(
        reopened
    )


def _is_awaited_elsewhere(graph: Graph, job: str) -> bool:
    """Whether another namespace may have been notified of a result, and wait for another parent.

    Once that one is finished, it would find none. What waits here is noted by the events.
    """
    return graph.jobs[job].publish


def block(
    record: Record,
    graph: Graph,
    blockers: Mapping[str, str],
    *,
    now: datetime,
    triggered: Mapping[str, str],
    state: State = State.BLOCKED,
    retired: Collection[str] = (),
) -> Record:
    """Record the jobs that cannot run because of another one above each of them.

    ``triggered`` is as in ``settle``. Those of other namespaces that are ``retired`` are not
    computed any more.
    """
    results = dict(record.results)
    for job, cause in blockers.items():
        old = find_entry(graph, record, job)
        if old is not None and old.state is state:
            continue
        old = old or _build_entry(record, job)
        result = build_blocked_result(job, cause, state, is_retired=cause in retired)
        notify = _strip(old.notify)
        results[graph.fingerprints[job]] = Entry(
            job=job,
            state=state,
            order=record.order,
            error=result.error,
            notify=notify,
            notify_at=old.notify_at if notify else None,
            requests=old.requests,
            triggered_by=old.triggered_by or triggered.get(job),
            equivalents=graph.find_stood_for(job),
            finished_at=now,
        )
    return evolve(record, results=results) if results != record.results else record


def build_blocked_result(
    job: str, cause: str, state: State = State.BLOCKED, *, is_retired: bool = False
) -> Result:
    """Return the result of a job that cannot run because of one above it."""
    message = f"{cause!r} above it failed; fix that, then 'segue retry' runs both"
    if "/" in cause:
        message = f"{cause!r} above it failed; ask the team that has it, then use 'segue retry'"
    if is_retired:
        message = (
            f"{cause!r} is not computed with the fingerprint that segue.lock has, any more or yet; "
            "run 'segue lock', and deploy that"
        )
    if state is State.NOT_APPLICABLE:
        message = f"{cause!r} above it is not for this file"
    return Result(job=job, state=state, error=Failure(kind=str(state), type=cause, message=message))


def settle(
    record: Record | None,
    graph: Graph,
    *,
    order: int,
    owner: str,
    results: Sequence[Result],
    now: datetime,
    claimed: Record | None = None,
    triggered: Mapping[str, str] | None = None,
) -> tuple[Record | None, tuple[str, ...]]:
    """Record results of an owner's jobs and clear their leases; return the jobs that were late.

    A result is too late, and changes nothing, if another owner has taken its lease, or if the file
    has another version. An expired lease that nobody has taken still counts, and so does a result
    that is recorded already. ``triggered`` names, by job, the event that each result is for.

    A parent that a result found damaged is queued again, unless it has another result than in the
    record that was ``claimed``.

    Whoever waits stays in ``notify`` until ``clear_notify``: a process that dies in between has
    notified nobody.
    """
    if record is None or record.order != order or record.deleted_at is not None:
        return None, tuple(r.job for r in results)
    entries = dict(record.results)
    late: list[str] = []
    for result in results:
        fingerprint = graph.fingerprints[result.job]
        old = entries.get(fingerprint)
        if old is None or old.lease is None or old.lease.owner != owner:
            before = claimed.results.get(fingerprint) if claimed is not None else None
            if old is None or before is None or not _is_recorded(old, before, result):
                late.append(result.job)
            continue
        is_finished = result.state in FINISHED
        is_inherited = result.error is not None and result.error.kind == result.state
        notify = _strip(old.notify) if is_finished else old.notify
        entries[fingerprint] = Entry(
            job=result.job,
            state=result.state,
            order=order,
            checksums={find_suffix(name): c for name, c in result.artifacts.items()},
            attempts=old.attempts - is_inherited,
            error=result.error,
            notify=notify,
            notify_at=old.notify_at if notify else None,
            triggered_by=(triggered or {}).get(result.job) if is_finished else None,
            requests=old.requests,
            equivalents=graph.find_stood_for(result.job) if is_finished else (),
            started_at=old.started_at,
            finished_at=now if is_finished else None,
            seconds=result.seconds,
            cpu_seconds=result.cpu_seconds,
        )
        if claimed is not None and result.damaged is not None:
            _queue_damaged(entries, graph, claimed, result.damaged, now)
    if len(late) == len(results):
        return None, tuple(late)
    return evolve(record, results=entries), tuple(late)


def _is_recorded(entry: Entry, claimed: Entry, result: Result) -> bool:
    """Whether an entry is a result already: the ledger may have failed after recording it."""
    return entry.lease is None and (entry.started_at, entry.state, entry.error) == (
        claimed.started_at,
        result.state,
        result.error,
    )


def _queue_damaged(
    entries: dict[str, Entry], graph: Graph, claimed: Record, parent: str, now: datetime
) -> None:
    fingerprint = find_current(graph, claimed, parent)
    found = entries.get(fingerprint) if fingerprint is not None else None
    if fingerprint is None or found is None or found != claimed.results[fingerprint]:
        return
    queued = evolve(found, state=State.QUEUED, checksums={}, finished_at=None)
    if found.triggered_by is not None:  # others may have been notified, and wait for more
        notify = tuple(dict.fromkeys((*found.notify, EVERYONE)))
        queued = evolve(queued, notify=notify, notify_at=now, triggered_by=None)
    entries[fingerprint] = queued


def _strip(notify: tuple[str, ...]) -> tuple[str, ...]:
    """Leave those who are still to be notified once the result is finished."""
    return tuple(whom for whom in notify if whom != NOBODY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notified:
    """What to change in an entry once those who depend on it are notified.

    On Dataflow it waits, pickled, behind a durable step: a change of its fields needs a drain.
    """

    fingerprint: str
    whom: tuple[str, ...] = (EVERYONE,)
    notify_at: datetime | None  # as it was; who was added since is still to be notified


def clear_notify(
    record: Record | None, *, order: int, notified: Iterable[Notified]
) -> tuple[Record | None, None]:
    """Clear whom to notify from results whose dependents were notified, and remember that.

    They stay while a result is being computed again.
    """
    if record is None or record.order != order:
        return None, None
    results = dict(record.results)
    for one in notified:
        entry = results.get(one.fingerprint)
        if entry is None or entry.state not in FINISHED:
            continue
        if entry.notify and entry.notify_at == one.notify_at:
            notified_by = EVERYONE if EVERYONE in one.whom else None
            left = tuple(whom for whom in entry.notify if whom not in one.whom)
            results[one.fingerprint] = evolve(
                entry,
                notify=left,
                notify_at=entry.notify_at if left else None,
                triggered_by=entry.triggered_by or notified_by,
            )
    return (evolve(record, results=results) if results != record.results else None), None


def trigger(record: Record, fingerprints: Iterable[str], event: str) -> Record:
    """Assign an event to results that were computed for none; it then notifies of them."""
    results = dict(record.results)
    for fingerprint in fingerprints:
        results[fingerprint] = evolve(results[fingerprint], triggered_by=event)
    return evolve(record, results=results) if results != record.results else record


def move_wanted(
    record: Record, graph: Graph, now: datetime, lost: Callable[[Lease], bool]
) -> Record:
    """Move what is wanted under a fingerprint that nobody computes any more to the present one.

    That is the fingerprint of the result that is current, or else the job's own.
    """
    results = dict(record.results)
    for fingerprint, entry in record.results.items():
        if not entry.notify or entry.job not in graph.jobs:
            continue
        present = find_current(graph, record, entry.job) or graph.fingerprints[entry.job]
        if fingerprint == present or _is_leased(entry, now, lost):
            continue
        found = results.get(present) or _build_entry(record, entry.job)
        notify = tuple(dict.fromkeys((*found.notify, *entry.notify)))
        if found.state in FINISHED:
            notify = _strip(notify)
        results[present] = evolve(found, notify=notify, notify_at=now if notify else None)
        if entry.state in FINISHED:
            results[fingerprint] = evolve(entry, notify=(), notify_at=None)
        else:
            del results[fingerprint]
    return evolve(record, results=results) if results != record.results else record


def forget_removed_jobs(record: Record, graph: Graph, now: datetime) -> Record:
    """Forget that results are wanted, or being computed, of jobs that the graph has not."""
    results = dict(record.results)
    for fingerprint, entry in record.results.items():
        since = [record.arrived_at, entry.notify_at or record.arrived_at]
        if entry.lease is not None:
            since.append(entry.lease.expires_at)
        is_open = bool(entry.notify) or entry.lease is not None
        if not is_open or entry.job in graph.jobs or max(since) + FORGET_AFTER > now:
            continue
        if entry.state in FINISHED:
            results[fingerprint] = evolve(entry, notify=(), notify_at=None)
        else:
            del results[fingerprint]
    return evolve(record, results=results) if results != record.results else record


def _is_leased(entry: Entry, now: datetime, lost: Callable[[Lease], bool]) -> bool:
    lease = entry.lease
    return lease is not None and lease.expires_at > now and not lost(lease)


def extend_leases(
    record: Record | None, *, owner: str, jobs: Collection[str], expires_at: datetime
) -> tuple[Record | None, bool]:
    """Extend an owner's leases; return whether it still held any of them."""
    if record is None:
        return None, False
    results = dict(record.results)
    held = False
    for fingerprint, entry in record.results.items():
        lease = entry.lease
        if lease is not None and lease.owner == owner and entry.job in jobs:
            until = max(expires_at, lease.expires_at)
            results[fingerprint] = evolve(entry, lease=Lease(owner=owner, expires_at=until))
            held = True
    return (evolve(record, results=results) if held else None), held


def release(
    record: Record | None, *, owns: Callable[[Lease], bool]
) -> tuple[Record | None, tuple[str, ...]]:
    """Give up leases whose jobs were not finished, and return which jobs they were.

    A job that nobody waits for, and that was not tried before, leaves no trace.
    """
    if record is None or record.deleted_at is not None:
        return None, ()
    results = dict(record.results)
    released = []
    for fingerprint, entry in record.results.items():
        if entry.lease is None or not owns(entry.lease):
            continue
        released.append(entry.job)
        if entry.attempts <= 1 and not entry.notify and not entry.requests:
            del results[fingerprint]
        else:
            attempts = max(entry.attempts - 1, 0)
            results[fingerprint] = evolve(entry, state=State.QUEUED, lease=None, attempts=attempts)
    return (evolve(record, results=results) if released else None), tuple(released)


def record_pings(
    record: Record | None,
    *,
    order: int,
    jobs: Iterable[str],
    request: str,
    triggered_by: str,
    now: datetime,
) -> tuple[Record | None, tuple[str, ...]]:
    """Record that a ping reached jobs; return those that are to pass it on.

    Each passes a ping on once, and again when that very message is delivered again. Several may be
    on their way at once, to different targets.
    """
    if record is None or record.order != order or record.deleted_at is not None:
        return None, ()
    pings = dict(record.pings)
    passing = []
    for job in jobs:
        old = pings.get(job)
        known = {old.request: old.triggered_by or "", **old.before} if old is not None else {}
        if known.setdefault(request, triggered_by) != triggered_by:
            continue
        passing.append(job)
        if old is not None and request in (old.request, *old.before):
            continue
        *before, latest = sorted(known)[-MAX_REQUESTS:]
        pings[job] = Ping(
            request=latest,
            at=now if old is None or latest == request else old.at,
            triggered_by=known[latest],
            before={one: known[one] for one in before},
        )
    return (evolve(record, pings=pings) if pings != record.pings else None), tuple(passing)
