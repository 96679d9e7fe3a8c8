"""A ledger in memory: for tests, and for the simulator, which runs thousands of histories."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from segue.errors import ConfigurationError
from segue.model.ledger import Change, Changed, DamageReport, LedgerCounts, Query, Snapshot
from segue.model.record import Record, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")


class MemoryLedger:
    """Records by URI; tests read them from ``records``."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.damage = DamageReport()  # of none: they are in memory
        self._lock = threading.Lock()
        self._snapshots = {r.uri: Snapshot(record=r, revision=1) for r in records}

    @property
    def records(self) -> dict[str, Record]:
        """All records by URI, in the order of their arrival."""
        return {uri: s.record for uri, s in self._snapshots.items() if s.record is not None}

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Read many records."""
        unknown = Snapshot(record=None)
        return [self._snapshots.get(uri, unknown) for uri in uris]

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        """Apply the transitions one at a time."""
        if len({change.uri for change in changes}) < len(changes):
            raise ConfigurationError("one call changes a file twice; make two calls")
        with self._lock:
            return [self._change(change) for change in changes]

    def _change(self, change: Change[T]) -> Changed[T]:
        snapshot = self._snapshots.get(change.uri, Snapshot(record=None))
        record, answer = change.transition(snapshot.record)
        if record is not None and record is not snapshot.record:
            snapshot = Snapshot(record=record, revision=(snapshot.revision or 0) + 1)
            self._snapshots[change.uri] = snapshot
        return Changed(snapshot=snapshot, answer=answer)

    def count(self, accepted: Mapping[str, Iterable[str]]) -> LedgerCounts:
        """Count files and entries."""
        records = list(self.records.values())
        alive = [r for r in records if r.deleted_at is None]
        jobs = {job: dict.fromkeys([*map(str, State), "stale"], 0) for job in accepted}
        for job, fingerprints in accepted.items():
            good = frozenset(fingerprints)
            for entry in (r.jobs[job] for r in alive if job in r.jobs):
                stale = entry.state is State.DONE and entry.fingerprint not in good
                jobs[job]["stale" if stale else str(entry.state)] += 1
        return LedgerCounts(files=len(alive), deleted=len(records) - len(alive), jobs=jobs)

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        """List records by URI."""
        found = [r for uri, r in sorted(self.records.items()) if uri > after and _matches(r, query)]
        return found[:limit]

    def sync(self) -> None:
        """Do nothing, as nothing is on a disk."""

    def close(self) -> None:
        """Do nothing, as nothing is open."""


def _matches(record: Record, query: Query) -> bool:
    if not record.uri.startswith(query.prefix):
        return False
    if query.deleted is not None and query.deleted != (record.deleted_at is not None):
        return False
    if query.pending and not record.has_pending_targets:
        return False
    if query.job is None:
        return True
    entry = record.jobs.get(query.job)
    return entry is not None and query.state in (None, entry.state)
