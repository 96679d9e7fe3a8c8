"""The ledger: the port through which the completion records of media files are read and changed.

No adapter decides anything about a file. An adapter reads records in batches and changes them in
batches, each by a transition: a pure function that returns the new record and an answer. It may
call the transition again if another process changed the record first.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

import msgspec

from segue.log import Action, log_event
from segue.model.controls import ControlChange, Controls
from segue.model.graph import Graph
from segue.model.record import Record, State, format_term

PAGE = 1000

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# Takes the current record (None: unknown file) and returns the new record and an answer. None, or
# the very record that came in, means that nothing is written.
Transition = Callable[[Record | None], tuple[Record | None, T]]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it was read, with its revision in the store."""

    record: Record | None
    revision: str | None = None  # opaque; equal only if nothing was written in between
    damage: str | None = None  # why there is a record that cannot be read


class Change(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A transition to apply to one file's record."""

    uri: str
    transition: Transition[T]
    known: Snapshot | None = None  # saves a read if it is still the newest


class Changed(msgspec.Struct, Generic[T_co], frozen=True, kw_only=True):
    """The outcome of a change: the record as it is now, and the transition's answer."""

    snapshot: Snapshot
    answer: T_co


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCounts:
    """The number of files, and of each job's results in each state."""

    files: int  # without tombstones
    deleted: int
    # Job → state → files. "stale": done, but under no accepted fingerprint.
    jobs: Mapping[str, Mapping[str, int]]
    reads: int = 0  # that the server bills for counting


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which records to list: those that meet all the conditions that are set."""

    prefix: str = ""  # what the URI begins with
    deleted: bool | None = None  # None: both
    # Only records with this term (see ``segue.model.record``); tombstones have none.
    open: str | None = None


class DamageReport:
    """The records of a ledger that could not be read, each logged once."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}  # by URI

    def add(self, uri: str, where: str, reason: object) -> str:
        """Add a record; return a message about it."""
        message = (
            f"the record of {uri} in {where} is damaged ({reason}); restore a backup, or run "
            "'segue backfill --force' with the file, which is then recorded anew"
        )
        if self.reasons.get(uri) != message:
            self.reasons[uri] = message
            log_event(Action.DAMAGED, severity="ERROR", file=uri, error=message)
        return message


class Ledger(Protocol):
    """The completion record of every media file.

    A record that cannot be read costs its file only: ``read`` tells why, ``find`` leaves it out,
    and ``change`` changes it only if the caller has read it and passes what was read.
    """

    @property
    def damage(self) -> DamageReport:
        """The records that could not be read so far."""

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Read many records in few calls, in the order of the URIs; an unknown file's is None."""

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        """Apply each transition atomically to its own record; the URIs must be distinct.

        Raises ``Contended`` or ``Unavailable`` if the store does not let it finish. Some of the
        changes may then have been made; callers apply them all again. Raises ``DamagedRecord``
        after all others were made.
        """

    def count(self, accepted: Mapping[str, Sequence[str]]) -> LedgerCounts:
        """Count files and results.

        ``accepted`` gives, by job, the fingerprints that count as done. Other states are counted of
        the first one, which is the job's own.
        """

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        """List records in the order of their URIs, from the first one behind ``after``."""

    def read_controls(self) -> Controls:
        """Read which jobs are paused and which runs cancelled; a new ledger has no controls."""

    def change_controls(self, change: ControlChange) -> Controls:
        """Change the controls atomically; return what they are then."""

    def sync(self) -> None:
        """Return once all changes survive a power cut."""

    def close(self) -> None:
        """Close connections and files."""


def find_prefix_end(prefix: str) -> str | None:
    """Return the first text after all that start with a prefix; UTF-8 sorts like code points."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            following = 0xE000 if last == 0xD7FF else last + 1  # surrogates are not characters
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


def find_pages(
    ledger: Ledger, query: Query, *, after: str = "", limit: int = PAGE
) -> Iterator[list[Record]]:
    """Yield all records that a query finds behind a URI, in pages, in the order of their URIs.

    The query's prefix names a file or a folder: with ``music``, neither ``music.wav`` nor
    ``music-private/`` is read.
    """
    if query.prefix and not query.prefix.endswith("/"):
        first = ledger.find(query, after=after, limit=1)  # the prefix itself sorts first
        if first and first[0].uri == query.prefix:
            yield first
        query = replace(query, prefix=f"{query.prefix}/")
    while page := ledger.find(query, after=after, limit=limit):
        yield page
        after = page[-1].uri


def find_records(ledger: Ledger, query: Query, *, after: str = "") -> Iterator[Record]:
    """Yield all records that a query finds behind a URI, in the order of their URIs."""
    return itertools.chain.from_iterable(find_pages(ledger, query, after=after))


def find_records_by_state(
    ledger: Ledger, graph: Graph, jobs: Iterable[str], states: Collection[State], prefix: str
) -> Iterator[Record]:
    """Yield the records that have any of the jobs in any of the states, each once, in order.

    The states are unfinished or unsuccessful ones, and the jobs as the graph now defines them.
    """
    terms = [format_term(job, graph.fingerprints[job], s) for job in jobs for s in states]
    return find_records_by_terms(ledger, terms, prefix)


def find_records_by_terms(
    ledger: Ledger, terms: Iterable[str], prefix: str = ""
) -> Iterator[Record]:
    """Yield the records that have any of the terms, each once, in the order of their URIs."""
    queries = [Query(prefix=prefix, open=term) for term in terms]
    found = heapq.merge(*(find_records(ledger, q) for q in queries), key=attrgetter("uri"))
    for _, same in itertools.groupby(found, key=attrgetter("uri")):
        yield next(same)
