"""Repairs discrepancies between the catalogue and the ledger, after checking them again."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from segue.errors import MissingInput
from segue.ingest.arrivals import Arrivals
from segue.maintenance.discrepancy import Discrepancy, DiscrepancyKind
from segue.model.graph import Graph
from segue.model.ledger import Change, Ledger, Transition
from segue.model.media_file import MediaFile, split_uri
from segue.model.object_store import ObjectStore
from segue.model.queue import Queue
from segue.model.record import Record
from segue.model.transitions import Arrival, delete

STAT_THREADS = 8


class Repair:
    """Applies the events that never came.

    Parameters
    ----------
    graph : Graph
    catalogue : ObjectStore
        The whole bucket or file system that contains the files.
    ledger : Ledger
    queue : Queue, optional
        Without a queue nothing is changed or published: discrepancies are only confirmed.
    now : datetime
        The deletion time to record for files that are gone.
    """

    def __init__(
        self,
        *,
        graph: Graph,
        catalogue: ObjectStore,
        ledger: Ledger,
        queue: Queue | None,
        now: datetime,
    ) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._arrivals = (
            None if queue is None else Arrivals(graph=graph, ledger=ledger, queue=queue)
        )
        self._now = now
        self._threads = ThreadPoolExecutor(STAT_THREADS)

    def repair(self, found: Sequence[Discrepancy]) -> list[Discrepancy]:
        """Repair and return the confirmed discrepancies: record them and notify their jobs."""
        present = [one for one in found if one.kind is not DiscrepancyKind.GONE]
        gone = [one for one in found if one.kind is DiscrepancyKind.GONE]
        return [*self._arrive(present), *self._record_deletions(self._confirm_gone(gone))]

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown()

    def _arrive(self, found: Sequence[Discrepancy]) -> list[Discrepancy]:
        """Record files as arrived, which notifies their jobs again if they were recorded before."""
        if self._arrivals is None or not found:
            return list(found)
        answers = self._arrivals.record([one.media for one in found])
        return [one for one, said in zip(found, answers, strict=True) if said is not Arrival.STALE]

    def _confirm_gone(self, found: Sequence[Discrepancy]) -> list[Discrepancy]:
        """Stat the objects again: listing and ledger were not read at the same moment."""
        gone = self._threads.map(self._is_gone, [one.media for one in found])
        return [one for one, is_gone in zip(found, gone, strict=True) if is_gone]

    def _is_gone(self, media: MediaFile) -> bool:
        try:
            self._catalogue.stat(split_uri(media.uri)[1])
        except MissingInput as error:  # a folder store raises it for unreadable folders, too
            return not isinstance(error.__cause__, PermissionError)
        return False

    def _record_deletions(self, found: Sequence[Discrepancy]) -> list[Discrepancy]:
        if self._arrivals is None or not found:
            return list(found)
        changed = self._ledger.change(
            [
                Change(uri=one.media.uri, transition=_build_deletion(one.media, self._now))
                for one in found
            ]
        )
        return [one for one, change in zip(found, changed, strict=True) if change.answer]


def _build_deletion(media: MediaFile, now: datetime) -> Transition[bool]:
    """Build the transition that leaves a tombstone, if the ledger still has that version."""

    def transition(found: Record | None) -> tuple[Record | None, bool]:
        if found is None or found.generation != media.generation:
            return found, False
        return delete(found, media, now)[0], True

    return transition
