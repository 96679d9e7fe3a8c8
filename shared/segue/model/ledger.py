"""The ledger: the port, and the pure transitions of a record that every adapter applies atomically.

Nothing about a file is decided inside an adapter. An adapter reads records in batches, and changes
them in batches, each by a transition: a pure function from the record as it is now to the record as
it shall be, and an answer. An adapter may call it again when somebody else was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from segue.errors import ConfigurationError
from segue.model.graph import Graph
from segue.model.media_file import MediaFile
from segue.model.record import EVERYTHING, Entry, Failure, Lease, Ping, Record, State, evolve

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# From the record as it is (None: never seen) to the record as it shall be and an answer. None, or
# the very record that came in, means that nothing is written.
Transition = Callable[[Record | None], tuple[Record | None, T]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A record as it was read, with the store's mark of that moment."""

    record: Record | None
    revision: Any = None  # opaque; equal only if nothing was written in between


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Generic[T]):
    """A transition to apply to one file's record."""

    uri: str
    transition: Transition[T]
    known: Snapshot | None = None  # saves a read if it is still the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(Generic[T_co]):
    """What came of a change: the record as it is now, and the transition's answer."""

    snapshot: Snapshot
    answer: T_co


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many files there are, and how many entries each job has in each state."""

    files: int  # without tombstones
    deleted: int
    jobs: Mapping[
        str, Mapping[str, int]
    ]  # job → state → entries; "stale" are done ones of another fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which records to list; all that is given must hold."""

    prefix: str = ""  # of the URI
    job: str | None = None
    state: State | None = None  # of that job's entry
    deleted: bool | None = None  # None: both
    owed: bool = False  # only where some entry still has targets in ``wanted``

    def __post_init__(self) -> None:
        if self.state is not None and self.job is None:
            raise ConfigurationError(f"the state {self.state} is one of a job's; name the job, too")


class Ledger(Protocol):
    """The completion record of every media file."""

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Read many records in few calls, in the order of the URIs; an unknown one is None."""

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        """Apply each transition atomically to its own record; the URIs must be distinct.

        Raises ``Contended`` or ``Unavailable`` if the store does not let it finish; some of the
        changes may then have been made, so transitions are written to be applied again.
        """

    def count(self, accepted: Mapping[str, Iterable[str]]) -> Counts:
        """Count files and entries; ``accepted`` says which fingerprints of a job count as done."""

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        """List records in order of their URIs; a page starts behind the URI ``after``."""

    def close(self) -> None:
        """Let go of connections and files."""


class Arrival(StrEnum):
    """What an arrival event told the ledger."""

    NEW = "new"
    NEWER = "newer"
    DUPLICATE = "duplicate"
    STALE = "stale"  # an older generation, or one that has been deleted since


def arrive(record: Record | None, media: MediaFile, now: datetime) -> tuple[Record, Arrival]:
    """Record that a version of a file is there; an older one never changes a newer record.

    What was computed of an older generation is dropped from the record; what is still owed to
    somebody stays owed.
    """
    if record is not None:
        if media.generation < record.generation:
            return record, Arrival.STALE
        if media.generation == record.generation:
            stale = record.deleted_at is not None
            return record, Arrival.STALE if stale else Arrival.DUPLICATE
    owed = {n: e for n, e in record.jobs.items() if e.wanted} if record is not None else {}
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
                wanted=entry.wanted,
                wanted_at=now,
                request=entry.request,
            )
            for name, entry in owed.items()
        },
    )
    return arrived, Arrival.NEW if record is None else Arrival.NEWER


def delete(record: Record | None, media: MediaFile, now: datetime) -> tuple[Record, bool]:
    """Leave a tombstone, unless a newer generation has arrived; answers whether it did.

    Events come in any order, so the arrival of what was deleted may still be on its way: a file
    that was never seen gets a tombstone, too, and one is moved up by the deletion of a newer
    generation. Either way that arrival is stale when it comes.
    """
    if record is None:
        arrived, _ = arrive(None, media, now)
        return evolve(arrived, deleted_at=now), True
    if record.generation > media.generation:
        return record, False
    if record.deleted_at is not None and record.generation == media.generation:
        return record, False
    return evolve(record, generation=media.generation, deleted_at=now), True


def current(graph: Graph, record: Record, job: str) -> bool:
    """Whether a job is done, for this generation, by a fingerprint that is accepted today."""
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
    """Give an owner the lease on jobs which, on this very record, the planner said are free."""
    lease = Lease(owner=owner, expires_at=now + timedelta(seconds=lease_s))
    entries = dict(record.jobs)
    for job in jobs:
        old = entries.get(job)
        print_ = graph.fingerprints[job]
        again = (
            old is not None
            and old.fingerprint == print_
            and old.generation == record.generation
            and old.state is not State.DONE
        )
        entries[job] = Entry(
            state=State.RUNNING,
            fingerprint=print_,
            generation=record.generation,
            attempts=(old.attempts if old is not None and again else 0) + 1,
            lease=lease,
            wanted=old.wanted if old is not None else (),
            wanted_at=old.wanted_at if old is not None else None,
            request=_latest(request, old),
            started_at=now,
        )
    return evolve(record, jobs=entries)


def _latest(request: str | None, old: Entry | None) -> str | None:
    """Of two requests the later one: what is computed now is new enough for both."""
    if old is None or old.request is None or request is None:
        return request or (old.request if old is not None else None)
    return max(request, old.request)


def want(
    record: Record, graph: Graph, job: str, targets: Iterable[str] | None, now: datetime
) -> Record:
    """Note at a job what is owed once it is done; requests for the same job coalesce here."""
    old = record.jobs.get(job)
    owed = (EVERYTHING,) if targets is None else tuple(targets)
    wanted = tuple(dict.fromkeys((*(old.wanted if old is not None else ()), *owed)))
    if old is None or (old.state is State.DONE and not current(graph, record, job)):
        entry = Entry(
            state=State.QUEUED,
            fingerprint=graph.fingerprints[job],
            generation=record.generation,
            wanted=wanted,
            wanted_at=now,
            request=old.request if old is not None else None,
        )
    else:
        entry = evolve(old, wanted=wanted, wanted_at=now)
    return evolve(record, jobs={**record.jobs, job: entry})


def reopen(record: Record, graph: Graph, job: str, request: str | None) -> Record:
    """Put back a result that a request wants computed again, while something above it is missing.

    What is left with a job above are targets without their force; so that it is not lost, the
    result counts as missing from now on. One that is being computed just now will do.
    """
    old = record.jobs.get(job)
    if old is None or old.state in (State.DONE, State.FAILED):
        entry = Entry(
            state=State.QUEUED,
            fingerprint=graph.fingerprints[job],
            generation=record.generation,
            wanted=old.wanted if old is not None else (),
            wanted_at=old.wanted_at if old is not None else None,
            request=request,
        )
    else:
        entry = evolve(old, request=_latest(request, old))
    return evolve(record, jobs={**record.jobs, job: entry})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one job of one file."""

    job: str
    state: State  # DONE, FAILED or BLOCKED; QUEUED gives the lease back, to be tried again
    artifact: str | None = None
    checksum: str | None = None
    error: Failure | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What settling did."""

    # Job → targets whose children are to be told, and then struck out by ``told``.
    owed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Results that came too late: the lease was taken, or the file changed.
    lost: tuple[str, ...] = ()


def settle(
    record: Record | None,
    *,
    generation: int,
    owner: str,
    results: Sequence[Result],
) -> tuple[Record | None, Settled]:
    """Record results of an owner's jobs, clear their leases, and return the targets owed.

    A result whose lease has passed to another, or whose file has a newer generation, changes
    nothing. A lease that expired and that nobody took still counts.

    What is owed stays in the record until ``told``: whoever dies in between has told nobody. That
    goes for what the message that is being worked on asks for, too. A second delivery of it may
    have left its targets here and been acknowledged, and then the message does not come again.
    """
    if record is None or record.generation != generation or record.deleted_at is not None:
        return None, Settled(lost=tuple(r.job for r in results))
    entries = dict(record.jobs)
    owed: dict[str, tuple[str, ...]] = {}
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
        if old.wanted and result.state is not State.QUEUED:
            owed[result.job] = old.wanted
    if len(lost) == len(results):
        return None, Settled(lost=tuple(lost))
    return evolve(record, jobs=entries), Settled(owed=owed, lost=tuple(lost))


def told(
    record: Record | None, *, generation: int, owed: Mapping[str, Iterable[str]], now: datetime
) -> tuple[Record | None, None]:
    """Strike out targets whose children were told; a job that is computed again owes them again."""
    if record is None or record.generation != generation:
        return None, None
    entries = dict(record.jobs)
    for job, targets in owed.items():
        entry = entries.get(job)
        if entry is not None and (entry.lease is None or entry.lease.expires_at <= now):
            struck = frozenset(targets)
            left = tuple(t for t in entry.wanted if t not in struck)
            wanted_at = entry.wanted_at if left else None
            entries[job] = evolve(entry, wanted=left, wanted_at=wanted_at)
    return (evolve(record, jobs=entries) if entries != record.jobs else None), None


def extend(
    record: Record | None, *, owner: str, jobs: Iterable[str], expires_at: datetime
) -> tuple[Record | None, bool]:
    """Keep leases alive; answers whether the owner still held any of them."""
    if record is None:
        return None, False
    entries = dict(record.jobs)
    held = False
    for job in jobs:
        entry = entries.get(job)
        if entry is not None and entry.lease is not None and entry.lease.owner == owner:
            entries[job] = evolve(entry, lease=Lease(owner=owner, expires_at=expires_at))
            held = True
    return (evolve(record, jobs=entries) if held else None), held


def pinged(
    record: Record | None, *, generation: int, job: str, request: str, now: datetime
) -> tuple[Record | None, None]:
    """Leave the trace of a ping at a job; of several the latest request's stays."""
    if record is None or record.generation != generation or record.deleted_at is not None:
        return None, None
    old = record.pings.get(job)
    if old is not None and old.request >= request:
        return None, None
    return evolve(record, pings={**record.pings, job: Ping(request=request, at=now)}), None


def requeue(record: Record | None, jobs: Iterable[str]) -> tuple[Record | None, tuple[str, ...]]:
    """Forget failures and blocks of jobs so that they are tried again; answers which."""
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
                wanted=entry.wanted,
                wanted_at=entry.wanted_at,
                request=entry.request,  # or a repeated message would force it once more
            )
            again.append(job)
    return (evolve(record, jobs=entries) if again else None), tuple(again)
