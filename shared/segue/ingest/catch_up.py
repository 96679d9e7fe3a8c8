"""Requests what is missing or stale of files that the ledger knows, a page at a time.

An arrival asks for what its file lacks, once. What has come to be missing since, as after a
backfill of one job or a change of the graph, is found by reading the records, and requested as a
user would: it is wanted in the ledger, and the pipelines that can begin get a message. What failed
for good, or is wanted already, is left alone, so a second look requests nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from segue.clock import Clock, utc_now
from segue.ingest.acceptance import accept_targets, build_requests
from segue.ingest.catalogue import MediaFilter
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Change, Ledger, Query
from segue.model.queue import Envelope, Queue
from segue.model.record import Lease, Record
from segue.model.transitions import is_current

PAGE = 200  # files per call


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUpPage:
    """What one page was about."""

    last: str  # the URI of its last file
    files: int  # of which results were requested


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUp:
    """Requests what jobs that run on arrival lack, of files below a prefix."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    media_filter: MediaFilter
    prefix: str = ""  # of URIs
    clock: Clock = utc_now
    lost: Callable[[Lease], bool] = is_lost
    page: int = PAGE

    @property
    def targets(self) -> tuple[str, ...]:
        """The jobs whose results are looked for."""
        return self.graph.select_on_arrival(self.graph.jobs)

    def request_page(self, after: str = "") -> CatchUpPage | None:
        """Request what the next files behind a URI lack; None: there are no more.

        The ledger is written first: if the process ends before the messages are published, the
        sweep sends them.
        """
        query = Query(prefix=self.prefix, deleted=False)
        records = self.ledger.find(query, after=after, limit=self.page)
        if not records:
            return None
        now = self.clock()
        changes = [
            Change(uri=record.uri, transition=partial(self._accept, now=now))
            for record in records
            if self._lacks_results(record)
        ]
        changed = self.ledger.change(changes) if changes else []
        requested = [each.answer for each in changed if each.answer]
        if requested:
            self.queue.publish([envelope for each in requested for envelope in each])
        return CatchUpPage(last=records[-1].uri, files=len(requested))

    def _lacks_results(self, record: Record) -> bool:
        if all(is_current(self.graph, record, job) for job in self.targets):
            return False
        return self.media_filter.find_reason_to_ignore(record.uri) is None

    def _accept(
        self, found: Record | None, *, now: datetime
    ) -> tuple[Record | None, list[Envelope]]:
        """Note what is wanted; return what to publish, unless all of it was wanted before."""
        if found is None or found.deleted_at is not None:
            return None, []
        record, planned = accept_targets(self.graph, found, self.targets, now, self.lost)
        if record == found:
            return None, []
        return record, build_requests(self.graph, record, self.targets, planned.elsewhere)
