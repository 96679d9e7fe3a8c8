"""Observes files of a folder: looks at them, writes what they are to the ledger, and looks again.

Events and listings of a folder are hints: by the time that one is read, the file may be another.
What counts is the file, and whoever writes looks again until file and ledger agree. So no clock and
no order of events is needed: after the last change of a file, somebody looks at it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from segue.errors import (
    ConfigurationError,
    Contended,
    DamagedRecord,
    MissingInput,
    SegueError,
    Superseded,
    TransientError,
    Unavailable,
)
from segue.model.ledger import Change, Ledger, Snapshot
from segue.model.media_file import MediaFile, is_same_stat, split_uri
from segue.model.object_store import REMEDIES, LeftOutReason, ObjectStore
from segue.model.record import Record, evolve
from segue.model.transitions import Arrival, arrive, delete

LOOKS = 10  # at a file that changes each time
THREADS = 8
ALONE_S = 0.05  # before threads help
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known of a file: the file itself, that it is gone, or why that is unknown."""

    uri: str
    media: MediaFile | None = None
    error: SegueError | None = None  # why it is unknown
    reason: LeftOutReason = LeftOutReason.UNREADABLE  # the kind of that
    other: str = ""  # what there is instead of a file: a pipe, a socket or a device

    @property
    def is_gone(self) -> bool:
        """Whether there is no such file."""
        return self.media is None and self.error is None


def look(
    store: ObjectStore,
    file: MediaFile,
    known: Record | None = None,
    *,
    read: bool = True,
    trust_absence: bool = False,
) -> Look:
    """Look at a file, and read it if its content is not known.

    Parameters
    ----------
    store : ObjectStore
        The file's whole bucket or file system.
    file : MediaFile
        The URI, and perhaps the ``stat`` of a listing, which saves a call.
    known : Record, optional
        What the ledger has: the content of a file with the same ``stat``.
    read : bool
        Without it, the version of a file whose content is not known is empty.
    trust_absence : bool
        Whether a missing file is gone even if its disk seems not to be mounted.
    """
    uri, name = file.uri, split_uri(file.uri)[1]
    try:
        # A file that was deleted, perhaps after it was listed, is not restored without a look.
        if file.stat is None or (known is not None and known.deleted_at is not None):
            file = store.stat(name).to_media_file(uri)
        if file.stat is None:  # in a bucket
            return Look(uri=uri, media=file)
        if known is not None and known.stat is not None and is_same_stat(known.stat, file.stat):
            return Look(uri=uri, media=evolve(known.media, order=None, stat=file.stat))
        if not read:
            return Look(uri=uri, media=file)
        return Look(uri=uri, media=store.identify(name).to_media_file(uri))
    except MissingInput as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, ABSENT):
            return Look(uri=uri, error=error, reason=_find_reason(error))
        stat = known.stat if known is not None and not trust_absence else None
        if doubt := store.doubt_absence(name, stat=stat):
            return Look(uri=uri, error=Unavailable(f"{uri}: {REMEDIES[doubt]}"), reason=doubt)
        is_other = isinstance(cause, IsADirectoryError)
        return Look(uri=uri, other=str(error) if is_other else "")
    except (TransientError, ConfigurationError) as error:
        return Look(uri=uri, error=error, reason=_find_reason(error))


def _find_reason(error: SegueError) -> LeftOutReason:
    if isinstance(error, Superseded | Contended):
        return LeftOutReason.CHANGING
    cause = error.__cause__
    return LeftOutReason.of(cause) if isinstance(cause, OSError) else LeftOutReason.UNREADABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a file was found to be, and what that meant for the ledger."""

    uri: str
    snapshot: Snapshot  # the record that it has by now
    media: MediaFile | None = None  # as it was seen; None: gone, or unknown
    # What the file was to the ledger: None if it is gone, or if it is unknown and was not recorded.
    arrival: Arrival | None = None
    # Whether the latest write made the record: then it contains nothing else.
    is_first: bool = False
    is_touched: bool = False  # its stat has changed, and its content has not
    is_deleted: bool = False  # a tombstone was written
    error: SegueError | None = None  # why it is unknown
    reason: LeftOutReason = LeftOutReason.UNREADABLE

    @property
    def explanation(self) -> str:
        """Why it is unknown, in general, and what to do."""
        return REMEDIES[self.reason]


@dataclass(slots=True, kw_only=True)
class _Watch:
    """A file that is being observed."""

    file: MediaFile
    snapshot: Snapshot
    event: str | None = None  # of another namespace, which passes a tombstone on
    look: Look | None = None
    arrivals: list[Arrival] = field(default_factory=list)  # of each write
    is_first: bool = False  # the record is as this one has made it
    is_deleted: bool = False
    error: SegueError | None = None

    def is_to_be_written(self) -> bool:
        """Whether something else was seen than the record says; a damaged one says nothing."""
        assert self.look is not None
        record, media = self.snapshot.record, self.look.media
        if self.snapshot.damage is not None:
            self.error = DamagedRecord(self.snapshot.damage, [self.file.uri])
            return False
        if self.look.error is not None:
            return False
        if record is not None and record.erased:
            return False
        if record is None or record.deleted_at is not None:
            return media is not None
        return media is None or (record.version, record.stat) != (media.version, media.stat)

    def note(self, answer: Arrival | bool | None) -> None:
        """Note what a write has said; None: nothing was written."""
        self.is_first = answer is Arrival.NEW
        if isinstance(answer, Arrival):
            self.arrivals.append(answer)
        elif answer is not None:
            self.is_deleted = self.is_deleted or answer

    def build_change(self, now: datetime) -> Change[Arrival | bool | None]:
        """Build the change that makes the record say what was seen.

        If the record has come to say something else meanwhile, this look may be older than that one
        and nothing is written: else a content would be replaced, and come back with the next look,
        and what is unfinished of it would be lost.
        """
        assert self.look is not None
        media, seen = self.look.media, _identify(self.snapshot.record)

        def change(found: Record | None) -> tuple[Record | None, Arrival | bool | None]:
            if _identify(found) != seen:
                return found, None
            if media is None:
                return delete(found, self.file, now, event=self.event)
            return arrive(found, media, now)

        return Change(uri=self.file.uri, known=self.snapshot, transition=change)

    def build_observation(self) -> Observation:
        """Return the result."""
        assert self.look is not None
        error, record = self.error or self.look.error, self.snapshot.record
        changed: list[Arrival] = [a for a in self.arrivals if a is not Arrival.DUPLICATE]
        is_there = self.look.media is not None and not (record is not None and record.erased)
        if error is not None:  # whoever has recorded it notifies of it, whatever it is by now
            is_there = bool(changed) and record is not None and record.deleted_at is None
        return Observation(
            uri=self.file.uri,
            snapshot=self.snapshot,
            media=self.look.media,
            arrival=(changed or [Arrival.DUPLICATE])[-1] if is_there else None,
            is_touched=bool(self.arrivals) and not changed,
            is_first=is_there and self.is_first,
            is_deleted=self.is_deleted and not is_there,
            error=error,
            reason=self.look.reason if self.error is None else _find_reason(self.error),
        )


def _identify(record: Record | None) -> tuple[int, bool] | None:
    """Return what a record says that a file is; the order grows with each content."""
    return None if record is None else (record.order, record.deleted_at is not None)


def observe(
    store: ObjectStore,
    ledger: Ledger,
    files: Iterable[MediaFile],
    now: datetime,
    *,
    snapshots: Sequence[Snapshot] | None = None,
    events: Sequence[str | None] | None = None,
    dry_run: bool = False,
    trust_absence: bool = False,
) -> list[Observation]:
    """Have the ledger say of each file what it is, and return that.

    A file that cannot be read is unknown, and stays as it is in the ledger, as does a damaged
    record. One that never stops changing is unknown, too.

    Parameters
    ----------
    store : ObjectStore
        The file system.
    ledger : Ledger
    files : iterable of MediaFile
        Different ones; see ``look``.
    now : datetime
        When they have arrived, or were deleted.
    snapshots : sequence of Snapshot, optional
        Their records, if they were read already.
    events : sequence of str or None, optional
        The events of other namespaces because of which they are looked at; a tombstone names it.
    dry_run : bool
        Look once, write nothing, and read no file that the ledger does not have.
    trust_absence : bool
        See ``look``.
    """
    files = list(files)
    if snapshots is None:
        snapshots = ledger.read([file.uri for file in files])
    watches = [
        _Watch(file=MediaFile(uri=f.uri, version="", stat=f.stat), snapshot=s, event=e)
        for f, s, e in zip(files, snapshots, events or [None] * len(files), strict=True)
    ]

    def look_at(watch: _Watch) -> Look:
        known = watch.snapshot.record
        is_read = known is not None or not dry_run
        return look(store, watch.file, known, read=is_read, trust_absence=trust_absence)

    left = watches
    for _ in range(LOOKS):
        for watch, seen in zip(left, map_in_threads(look_at, left), strict=True):
            watch.look = seen
        left = [watch for watch in left if watch.is_to_be_written()]
        if dry_run:
            for watch in left:
                watch.note(watch.build_change(now).transition(watch.snapshot.record)[1])
            left = []
        if not left:
            break
        _write(ledger, left, now)
    for watch in left:
        watch.error = Contended(f"{watch.file.uri} keeps changing; try again later")
    return [watch.build_observation() for watch in watches]


def _write(ledger: Ledger, watches: Sequence[_Watch], now: datetime) -> None:
    """Write what was seen; from then on only the files count, and no listing."""
    try:
        made = ledger.change([watch.build_change(now) for watch in watches])
    except DamagedRecord:  # all others are written, and what they were to the ledger is not known
        snapshots = ledger.read([watch.file.uri for watch in watches])
        answers: list[Arrival | bool | None] = [Arrival.NEWER for _ in watches]
    else:
        snapshots = [changed.snapshot for changed in made]
        answers = [changed.answer for changed in made]
    for watch, snapshot, answer in zip(watches, snapshots, answers, strict=True):
        watch.snapshot = snapshot
        watch.note(answer)
        watch.file = MediaFile(uri=watch.file.uri, version="")


def map_in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Apply a function to items: to several at once if it waits, or hashes, for some time.

    For small files on a disk of this machine, threads would take longer than the function.
    """
    results: list[R] = []
    until_s = time.monotonic() + ALONE_S
    while len(results) < len(items) and time.monotonic() < until_s:
        results.append(function(items[len(results)]))
    if rest := items[len(results) :]:
        with ThreadPoolExecutor(min(THREADS, len(rest))) as threads:
            results += threads.map(function, rest)
    return results
