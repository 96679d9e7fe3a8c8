"""Events of media files: arrivals and deletions, recorded in the ledger.

An arrival is recorded first, then the jobs that read the file are notified, and a repeated event
notifies them again: so the redelivery of an event repairs a crash in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from segue.clock import Clock, utc_now
from segue.errors import DamagedRecord
from segue.model.artifact import ARTIFACT
from segue.model.graph import SOURCE, Graph
from segue.model.ledger import Change, Ledger, Snapshot
from segue.model.media_file import MediaFile
from segue.model.message import Message
from segue.model.object_store import ObjectStore
from segue.model.queue import Queue, message_to_envelope
from segue.model.record import Record
from segue.model.transitions import Arrival, arrive, delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Records versions of files that have arrived."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    clock: Clock = utc_now

    def record(self, files: Sequence[MediaFile]) -> list[Arrival]:
        """Record different files, notify their jobs, and return what each was to the ledger.

        A duplicate notifies again, since whoever recorded it may have died before notifying. A file
        whose record is damaged counts as stale, unless it is the only one.

        Raises
        ------
        DamagedRecord
            If no file's record can be read.
        """
        try:
            return self._record(files)
        except DamagedRecord as error:
            whole = [media for media in files if media.uri not in error.uris]
            if not whole:
                raise
            arrivals = dict(zip(whole, self._record(whole), strict=True))
            return [arrivals.get(media, Arrival.STALE) for media in files]

    def _record(self, files: Sequence[MediaFile]) -> list[Arrival]:
        now = self.clock()
        changed = self.ledger.change(
            [
                # Most files are new: then this is one write each, and no read.
                Change(
                    uri=media.uri,
                    known=Snapshot(record=None),
                    transition=partial(arrive, media=media, now=now),
                )
                for media in files
            ]
        )
        envelopes = [
            message_to_envelope(Message(uri=media.uri, generation=media.generation, job=job))
            for media, change in zip(files, changed, strict=True)
            if change.answer is not Arrival.STALE
            for job in self.graph.children[SOURCE]
        ]
        if envelopes:
            self.queue.publish(envelopes)
        return [change.answer for change in changed]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionResult:
    """The effect of a deletion."""

    is_new: bool  # False: there was a tombstone already, or a newer version is there
    removed: int = 0  # artifacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletions:
    """Records deletions of versions of files."""

    ledger: Ledger
    artifacts: ObjectStore | None = None  # None: artifacts are kept, until 'segue gc'
    clock: Clock = utc_now

    def record(self, media: MediaFile) -> DeletionResult:
        """Record a tombstone; a repeated event removes the artifacts that the first one left."""
        changed = self.ledger.change(
            [Change(uri=media.uri, transition=partial(delete, media=media, now=self.clock()))]
        )[0]
        record = changed.snapshot.record
        if record is None or record.deleted_at is None or record.generation > media.generation:
            return DeletionResult(is_new=False)
        return DeletionResult(is_new=changed.answer, removed=self._remove(record))

    def _remove(self, record: Record) -> int:
        """Remove artifacts of all versions of the file, by the jobs' versions in the record."""
        if self.artifacts is None:
            return 0
        store, removed = self.artifacts, 0
        location = store.uri("x").removesuffix("x")
        for entry in record.jobs.values():
            if entry.artifact is None or not entry.artifact.startswith(location):
                continue
            folder = entry.artifact.removeprefix(location).rpartition("/")[0] + "/"
            for found in list(store.list(folder)):
                # Other files' artifacts may be below that folder; a newer version may have arrived.
                name = ARTIFACT.fullmatch(found.name)
                is_in_folder = found.name.rpartition("/")[0] + "/" == folder
                if name and is_in_folder and int(name["generation"]) <= record.generation:
                    removed += store.delete(found.name, generation=found.generation)
        return removed
