"""Observes the files in folders that a backfill is given, before they are worked on.

A file with the ``stat`` that the ledger has costs nothing. Others are read, a bounded number of
bytes at once, so that jobs run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from segue.adapters.connect import connect_store
from segue.clock import Clock, utc_now
from segue.errors import DamagedRecord
from segue.ingest.observation import Observation, observe
from segue.model.ledger import Ledger, Snapshot
from segue.model.media_file import MediaFile, find_bucket_location
from segue.model.object_store import LeftOutReason
from segue.model.outcome import Outcome, Status

MAX_FILES = 64  # to read at once
MAX_BYTES = 256 << 20

LeaveOut = Callable[[Observation], None]


@dataclass(slots=True)
class ObservedFiles:
    """Files that are there, with their records, and the outcomes of those that are not."""

    files: list[MediaFile] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def add(self, media: MediaFile, snapshot: Snapshot) -> None:
        """Add a file."""
        self.files.append(media)
        self.snapshots.append(snapshot)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFiles:
    """Observes files of a run.

    Parameters
    ----------
    ledger : Ledger
    targets : tuple of str
        The jobs that outcomes are about.
    leave_out : callable
        Called with each file that cannot be read.
    dry_run : bool
        Write nothing.
    """

    ledger: Ledger
    targets: tuple[str, ...]
    leave_out: LeaveOut
    dry_run: bool = False
    clock: Clock = utc_now

    def observe(self, files: Sequence[MediaFile]) -> Iterator[ObservedFiles]:
        """Yield what the files are, in parts: first those that need not be read."""
        snapshots = self.ledger.read([media.uri for media in files])
        known, others = ObservedFiles(), []
        for media, snapshot in zip(files, snapshots, strict=True):
            record = snapshot.record
            is_alive = record is not None and record.deleted_at is None
            if record is not None and is_alive and record.stat == media.stat is not None:
                known.add(record.media, snapshot)
            else:
                others.append((media, snapshot))
        yield known
        for part in _split_by_size(others):
            yield self._observe(part)

    def _observe(self, part: Sequence[tuple[MediaFile, Snapshot]]) -> ObservedFiles:
        files, snapshots = zip(*part, strict=True)
        store = connect_store(find_bucket_location(files[0].uri))
        found = ObservedFiles()
        for media, seen in zip(
            files,
            observe(
                store,
                self.ledger,
                files,
                self.clock(),
                snapshots=snapshots,
                dry_run=self.dry_run,
            ),
            strict=True,
        ):
            self._sort(found, media, seen)
        return found

    def _sort(self, found: ObservedFiles, media: MediaFile, seen: Observation) -> None:
        record = seen.snapshot.record
        is_damaged = isinstance(seen.error, DamagedRecord)
        if seen.media is not None and (self.dry_run or is_damaged):
            found.add(seen.media, seen.snapshot)
        elif seen.error is None:
            if seen.media is not None and record is not None:
                found.add(record.media, seen.snapshot)
            else:
                found.outcomes.append(self._build_outcome(media, Status.DELETED))
        elif seen.reason is LeftOutReason.CHANGING:
            found.outcomes.append(self._build_outcome(media, Status.SUPERSEDED))
        else:
            self.leave_out(seen)

    def _build_outcome(self, media: MediaFile, status: Status) -> Outcome:
        return Outcome.from_status(media, self.targets, status)


def _split_by_size(
    pairs: Iterable[tuple[MediaFile, Snapshot]],
) -> Iterator[list[tuple[MediaFile, Snapshot]]]:
    part: list[tuple[MediaFile, Snapshot]] = []
    size = 0
    for media, snapshot in pairs:
        part.append((media, snapshot))
        size += media.size_bytes
        if len(part) == MAX_FILES or size >= MAX_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
