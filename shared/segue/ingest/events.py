"""Events of media files: arrivals and deletions, recorded in the ledger.

An arrival is recorded first, then the pipelines that read the file are notified, and a repeated
event notifies them again: so the redelivery of an event repairs a crash in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from segue.clock import Clock, utc_now
from segue.errors import DamagedRecord
from segue.ingest.file_artifacts import find_file_artifacts, format_result_folder
from segue.ingest.observation import Observation
from segue.model.artifact import parse_artifact_name
from segue.model.graph import SOURCE, Graph
from segue.model.ledger import Change, Ledger, Snapshot
from segue.model.media_file import MediaFile
from segue.model.message import Message, describe_arrival
from segue.model.object_store import ObjectStore
from segue.model.queue import Envelope, Queue, event_to_envelope
from segue.model.record import Record
from segue.model.transitions import Arrival, arrive, delete

# How long after a file in a folder was recorded its event may still come.
GRACE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Records versions of files that have arrived, and notifies the pipelines."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    clock: Clock = utc_now

    def record(self, files: Sequence[MediaFile]) -> list[Arrival]:
        """Record different objects of buckets, and return what each was to the ledger.

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
        self._publish(
            self._build_event(change.snapshot, change.answer is Arrival.NEW)
            for change in changed
            if change.answer is not Arrival.STALE
        )
        return [change.answer for change in changed]

    def announce(self, observations: Iterable[Observation]) -> None:
        """Notify the pipelines of files in folders that were observed, and are there."""
        self._publish(
            self._build_event(one.snapshot, one.is_first)
            for one in observations
            if one.arrival is not None
        )

    def is_announced(self, record: Record) -> bool:
        """Whether the pipelines were notified of a file in a folder, or that is no longer due.

        A backfill or a request may record a new file before its event comes, and notifies nobody.
        """
        first = self.graph.select_on_arrival(self.graph.children[SOURCE])
        is_triggered = any(e.triggered_by for e in record.results.values() if e.job in first)
        return not first or is_triggered or record.arrived_at + GRACE < self.clock()

    def _publish(self, events: Iterable[Envelope]) -> None:
        envelopes = list(events)
        if envelopes:
            self.queue.publish(envelopes)

    def _build_event(self, snapshot: Snapshot, is_new: bool) -> Envelope:
        """Return the event of one arrival.

        Only the one that recorded the file tells what the record contains: by the time of a
        repeated one, results may be in it.
        """
        record, revision = snapshot.record, snapshot.revision
        assert record is not None
        is_new = is_new and revision is not None
        event = Message(
            namespace=self.graph.namespace,
            uri=record.uri,
            version=record.version,
            order=record.order,
            trigger=SOURCE,
            arrived=describe_arrival(record, revision or "") if is_new else None,
        )
        return event_to_envelope(event)


def build_deletion_events(
    graph: Graph, record: Record, jobs: Iterable[str], *, hops: int = 0
) -> Iterator[Envelope]:
    """Yield the events by which a deletion reaches the namespaces that depend on some jobs.

    The jobs may be ``source``, for those that read the file itself.
    """
    for job in jobs:
        if job == SOURCE or graph.jobs[job].publish:
            event = Message(
                namespace=graph.namespace,
                uri=record.uri,
                version=record.version,
                order=record.order,
                trigger=job,
                is_deleted=True,
                is_erased=record.erased,
                hops=hops,
            )
            yield event_to_envelope(event)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionResult:
    """The effect of a deletion."""

    is_new: bool  # False: there was a tombstone already, or a newer version is there
    removed: int = 0  # artifacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletions:
    """Records deletions of objects of buckets, and tells the namespaces that use a file's results.

    This namespace's own pipelines need no event: they read the tombstone.
    """

    graph: Graph
    ledger: Ledger
    queue: Queue
    artifacts: ObjectStore | None = None  # None: artifacts are kept, until 'segue gc'
    clock: Clock = utc_now

    def record(self, media: MediaFile) -> DeletionResult:
        """Record a tombstone; a repeated event removes the artifacts that the first one left."""
        changed = self.ledger.change(
            [Change(uri=media.uri, transition=partial(delete, media=media, now=self.clock()))]
        )[0]
        record = changed.snapshot.record
        if record is None or record.deleted_at is None:
            return DeletionResult(is_new=False)
        if media.order is not None and record.order > media.order:
            return DeletionResult(is_new=False)
        self.announce([record])
        return DeletionResult(is_new=changed.answer, removed=self._remove(record))

    def announce_absence(self, uri: str, record: Record | None) -> None:
        """Tell that a file in a folder is not there, even if this ledger does not know it.

        Other namespaces may have it from a backfill or a request.
        """
        if record is None:
            record, _ = delete(None, MediaFile(uri=uri, version="", order=0), self.clock())
        if record is not None and record.deleted_at is not None:
            self.announce([record])

    def announce(self, records: Iterable[Record]) -> None:
        """Tell the namespaces that use the results of deleted files."""
        if not self.graph.is_shared:
            return
        events = [
            event
            for record in records
            for event in build_deletion_events(self.graph, record, (SOURCE, *self.graph.jobs))
        ]
        if events:
            self.queue.publish(events)

    def _remove(self, record: Record) -> int:
        """Remove the artifacts of the recorded results, in this version of the file and older ones.

        Versions that have no order of their own are left to garbage collection: such a content may
        be on its way back.
        """
        if self.artifacts is None:
            return 0
        folders = [format_result_folder(e.job, f) for f, e in record.results.items()]
        removed = 0
        for found in list(find_file_artifacts(self.artifacts, record.uri, folders)):
            version = parse_artifact_name(found.name).version
            if version.isdecimal() and int(version) <= record.order:  # a newer one may be there
                removed += self.artifacts.delete(found.name, generation=found.generation)
        return removed
