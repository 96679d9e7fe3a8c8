"""A ledger in memory: for tests, and for the simulator, which runs thousands of histories."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from segue.errors import ConfigurationError, DamagedRecord
from segue.model.controls import NO_CONTROLS, ControlChange, Controls
from segue.model.ledger import Change, Changed, DamageReport, LedgerCounts, Query, Snapshot
from segue.model.record import Record, State, list_open_terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")

UNKNOWN = Snapshot(record=None)


class MemoryLedger:
    """Records by URI; tests read them from ``records``, which is in the order of arrival."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.damage = DamageReport()  # of none: they are in memory
        self.records: dict[str, Record] = {}
        self.controls = NO_CONTROLS
        self._lock = threading.Lock()
        self._snapshots: dict[str, Snapshot] = {}
        for record in records:
            self._write(record, "1")

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Read many records."""
        return [self._snapshots.get(uri, UNKNOWN) for uri in uris]

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        """Apply the transitions one at a time."""
        if len({change.uri for change in changes}) < len(changes):
            raise ConfigurationError("one call changes a file twice; make two calls")
        damaged: dict[str, str] = {}
        changed = []
        with self._lock:
            for change in changes:
                found = self._snapshots.get(change.uri, UNKNOWN)
                known = change.known.revision if change.known is not None else None
                if found.damage is not None and known != found.revision:
                    damaged[change.uri] = found.damage
                else:
                    changed.append(self._change(change))
        if damaged:
            raise DamagedRecord(next(iter(damaged.values())), damaged)
        return changed

    def _change(self, change: Change[T]) -> Changed[T]:
        snapshot = self._snapshots.get(change.uri, UNKNOWN)
        if change.known is not None and change.known.revision == snapshot.revision:
            snapshot = change.known
        record, answer = change.transition(snapshot.record)
        if record is not None and record is not snapshot.record:
            snapshot = self._write(record, str(int(snapshot.revision or 0) + 1))
        return Changed(snapshot=snapshot, answer=answer)

    def _write(self, record: Record, revision: str) -> Snapshot:
        snapshot = Snapshot(record=record, revision=revision)
        self.records[record.uri] = record
        self._snapshots[record.uri] = snapshot
        return snapshot

    def count(self, accepted: Mapping[str, Sequence[str]]) -> LedgerCounts:
        """Count files and results."""
        records = list(self.records.values())  # others may write
        alive = [r for r in records if r.deleted_at is None]
        jobs = {job: dict.fromkeys([*map(str, State), "stale"], 0) for job in accepted}
        for job, (own, *others) in accepted.items():
            for record in alive:
                results = {f: e.state for f, e in record.results.items() if e.job == job}
                done = {f for f, state in results.items() if state is State.DONE}
                if done:
                    jobs[job]["stale" if done.isdisjoint({own, *others}) else "done"] += 1
                if own in results and own not in done:
                    jobs[job][str(results[own])] += 1
        return LedgerCounts(files=len(alive), deleted=len(records) - len(alive), jobs=jobs)

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        """List records by URI."""
        records = list(self.records.items())  # others may write
        found = sorted((uri, r) for uri, r in records if uri > after and _matches(r, query))
        return [record for _, record in found[:limit]]

    def read_controls(self) -> Controls:
        """Read the controls."""
        return self.controls

    def change_controls(self, change: ControlChange) -> Controls:
        """Change the controls."""
        with self._lock:
            self.controls = change(self.controls)
            return self.controls

    def sync(self) -> None:
        """Do nothing, as nothing is on a disk."""

    def close(self) -> None:
        """Do nothing, as nothing is open."""


def _matches(record: Record, query: Query) -> bool:
    if not record.uri.startswith(query.prefix):
        return False
    if query.deleted is not None and query.deleted != (record.deleted_at is not None):
        return False
    return query.open is None or query.open in list_open_terms(record)
