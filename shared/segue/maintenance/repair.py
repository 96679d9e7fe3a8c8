"""What is done where the catalogue and the ledger disagree, after a second look."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from segue.errors import MissingInput
from segue.ingest.arrivals import Arrivals
from segue.maintenance.discrepancy import Discrepancy, Kind
from segue.model.graph import Graph
from segue.model.ledger import Arrival, Change, Ledger, Transition, delete
from segue.model.media_file import MediaFile, split_uri
from segue.model.object_store import ObjectStore
from segue.model.queue import Queue
from segue.model.record import Record

LOOKS_AT_ONCE = 8


class Mender:
    """Does what the events would have done.

    Parameters
    ----------
    graph : Graph
    catalogue : ObjectStore
        The whole bucket or file system in which the files are.
    ledger : Ledger
    queue : Queue, optional
        Without one nothing is changed, and nobody told: then discrepancies are only confirmed.
    now : datetime
        When what is gone is said to have been deleted.
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
        self._looks = ThreadPoolExecutor(LOOKS_AT_ONCE)

    def mend(self, found: Sequence[Discrepancy]) -> list[Discrepancy]:
        """Mend what is still wrong; returns it, once the ledger has it and the jobs are told."""
        there = [one for one in found if one.kind is not Kind.GONE]
        gone = [one for one in found if one.kind is Kind.GONE]
        return [*self._arrive(there), *self._bury(self._still_gone(gone))]

    def close(self) -> None:
        """Stop the threads."""
        self._looks.shutdown()

    def _arrive(self, found: Sequence[Discrepancy]) -> list[Discrepancy]:
        """Let files arrive, whatever was recorded of them before: their jobs are told again."""
        if self._arrivals is None or not found:
            return list(found)
        answers = self._arrivals.take([one.media for one in found])
        return [one for one, said in zip(found, answers, strict=True) if said is not Arrival.STALE]

    def _still_gone(self, found: Sequence[Discrepancy]) -> list[Discrepancy]:
        """Look at the objects themselves: listing and ledger were not read at the same moment."""
        gone = self._looks.map(self._is_gone, [one.media for one in found])
        return [one for one, is_gone in zip(found, gone, strict=True) if is_gone]

    def _is_gone(self, media: MediaFile) -> bool:
        try:
            self._catalogue.stat(split_uri(media.uri)[1])
        except MissingInput as error:  # a folder says the same of what may not be looked at
            return not isinstance(error.__cause__, PermissionError)
        return False

    def _bury(self, found: Sequence[Discrepancy]) -> list[Discrepancy]:
        if self._arrivals is None or not found:
            return list(found)
        changed = self._ledger.change(
            [Change(uri=one.media.uri, transition=_burying(one.media, self._now)) for one in found]
        )
        return [one for one, change in zip(found, changed, strict=True) if change.answer]


def _burying(media: MediaFile, now: datetime) -> Transition[bool]:
    """Leave a tombstone for just that version, if it is the one that the ledger knows by then."""

    def transition(found: Record | None) -> tuple[Record | None, bool]:
        if found is None or found.generation != media.generation:
            return found, False
        return delete(found, media, now)[0], True

    return transition
