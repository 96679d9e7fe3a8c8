"""Arrivals: record new versions of files in the ledger, and notify the jobs that read them.

Recording comes first, and a repeated event notifies the jobs again: so the redelivery of an event
repairs a crash in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from segue.clock import Clock, utc_now
from segue.model.graph import SOURCE, Graph
from segue.model.ledger import Change, Ledger, Snapshot
from segue.model.media_file import MediaFile
from segue.model.message import Message
from segue.model.queue import Envelope, Queue, message_to_envelope
from segue.model.record import Record
from segue.model.transitions import Arrival, arrive

NOTHING_KNOWN = Snapshot(record=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Records versions of files that have arrived."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    clock: Clock = utc_now

    def record(self, files: Sequence[MediaFile]) -> list[Arrival]:
        """Record files, notify their jobs, and return what each was to the ledger.

        A duplicate notifies again, since whoever recorded it may have died before notifying.
        """
        arrivals = [Arrival.STALE] * len(files)
        newest: dict[str, int] = {}  # of a file that is repeated, only the newest version counts
        for i, media in enumerate(files):
            if media.uri not in newest or files[newest[media.uri]].generation < media.generation:
                newest[media.uri] = i
        now = self.clock()
        # Most files are new: then this is one write each, and no read.
        changes = [
            Change(uri=uri, known=NOTHING_KNOWN, transition=_build_arrival(files[i], now))
            for uri, i in newest.items()
        ]
        envelopes: list[Envelope] = []
        for i, changed in zip(newest.values(), self.ledger.change(changes), strict=True):
            arrivals[i] = changed.answer
            if changed.answer is not Arrival.STALE:
                envelopes += self.build_envelopes(files[i])
        if envelopes:
            self.queue.publish(envelopes)
        for i, media in enumerate(files):  # a repeated version counts as in a second call
            first = newest[media.uri]
            if i != first and media.generation == files[first].generation:
                is_stale = arrivals[first] is Arrival.STALE
                arrivals[i] = Arrival.STALE if is_stale else Arrival.DUPLICATE
        return arrivals

    def build_envelopes(self, media: MediaFile) -> list[Envelope]:
        """Build the envelopes that notify the jobs that read the source of a version of a file."""
        return [
            message_to_envelope(Message(uri=media.uri, generation=media.generation, job=job))
            for job in self.graph.children[SOURCE]
        ]


def _build_arrival(
    media: MediaFile, now: datetime
) -> Callable[[Record | None], tuple[Record | None, Arrival]]:
    return lambda found: arrive(found, media, now)
