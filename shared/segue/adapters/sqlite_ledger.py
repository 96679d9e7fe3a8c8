"""The embedded ledger: one SQLite file, shared by several processes.

There is one row per file, with the record as JSON, in the order of the URIs: catalogues are
processed in that order, so neighbours share pages, and a batch of writes touches few (keys without
order cost three times as much). Counts and state queries need only one small column: the
*signature* of a record's entries (which job is in which state under which fingerprint, and whether
targets are pending). A catalogue has few different ones, so counting millions of entries reads one
narrow index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from segue.adapters.sqlite_file import BUSY_TIMEOUT_S, SqliteFile
from segue.errors import ConfigurationError, DamagedRecord
from segue.model.ledger import (
    Change,
    Changed,
    DamageReport,
    LedgerCounts,
    Query,
    Snapshot,
    find_prefix_end,
)
from segue.model.record import Record, State

T = TypeVar("T")

PENDING = "!"  # ends the signature of a record with pending targets
BATCH = 500

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


class SqliteLedger(SqliteFile):
    """The ledger in a file."""

    noun = "ledger"
    variable = "SEGUE_LEDGER"
    if_damaged = "restore it from a backup"
    pragmas = ("page_size = 16384", "cache_size = -8192")
    schema = """
CREATE TABLE signatures (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE files (
    uri TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    signature INTEGER NOT NULL,
    record BLOB NOT NULL  -- JSON
) WITHOUT ROWID;
CREATE INDEX files_by_signature ON files (signature, deleted);
"""

    def __init__(self, path: str, *, busy_s: float = BUSY_TIMEOUT_S) -> None:
        self._signatures: dict[str, int] = {}
        self.damage = DamageReport()
        super().__init__(path, busy_s=busy_s)

    def _forget_rows(self) -> None:
        self._signatures.clear()

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        with self._session():
            rows = self._read_rows(uris)
        return [self._to_snapshot(uri, rows.get(uri)) for uri in uris]

    def _read_rows(self, uris: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        rows: dict[str, tuple[int, bytes]] = {}
        for start in range(0, len(uris), BATCH):
            batch = uris[start : start + BATCH]
            found = self._db.execute(
                "SELECT uri, revision, record FROM files WHERE uri IN "  # noqa: S608
                f"({','.join('?' * len(batch))})",
                batch,
            )
            rows.update((uri, (revision, record)) for uri, revision, record in found)
        return rows

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        if len({change.uri for change in changes}) < len(changes):
            raise ConfigurationError("one call changes a file twice; make two calls")
        changed: list[Changed[T]] = []
        damaged: dict[str, str] = {}
        with self._session():
            for start in range(0, len(changes), BATCH):
                with self._transaction():
                    changed += self._change(changes[start : start + BATCH], damaged)
        if damaged:
            raise DamagedRecord(next(iter(damaged.values())), damaged)
        return changed

    def _change(self, changes: Sequence[Change[T]], damaged: dict[str, str]) -> list[Changed[T]]:
        """Change some records, and note why others are damaged."""
        rows = self._read_rows([change.uri for change in changes])
        written: list[tuple[str, int, bool, int, bytes]] = []
        changed: list[Changed[T]] = []
        for change in changes:
            row = rows.get(change.uri)
            revision = None if row is None else row[0]
            snapshot = change.known
            if snapshot is None or snapshot.revision != revision:
                snapshot = self._to_snapshot(change.uri, row)
                if snapshot.damage is not None:
                    damaged[change.uri] = snapshot.damage
                    continue
            old = snapshot.record
            new, answer = change.transition(old)
            if new is not None and new is not old:
                snapshot = Snapshot(record=new, revision=(revision or 0) + 1)
                signature = self._intern_signature(new)
                deleted = new.deleted_at is not None
                written.append((change.uri, snapshot.revision, deleted, signature, _encode(new)))
            changed.append(Changed(snapshot=snapshot, answer=answer))
        self._db.executemany("REPLACE INTO files VALUES (?, ?, ?, ?, ?)", written)
        return changed

    def _intern_signature(self, record: Record) -> int:
        jobs = record.jobs
        text = ";".join([f"{n}:{jobs[n].state}:{jobs[n].fingerprint}" for n in sorted(jobs)])
        if record.has_pending_targets:
            text += PENDING
        known = self._signatures.get(text)
        if known is None:
            self._db.execute("INSERT OR IGNORE INTO signatures (text) VALUES (?)", (text,))
            row = self._db.execute("SELECT id FROM signatures WHERE text = ?", (text,)).fetchone()
            known = self._signatures[text] = int(row[0])
        return known

    def count(self, accepted: Mapping[str, Iterable[str]]) -> LedgerCounts:
        with self._session():
            rows = self._db.execute(
                "SELECT text, deleted, n FROM (SELECT signature, deleted, count(*) AS n FROM files "
                "GROUP BY signature, deleted) JOIN signatures ON id = signature"
            ).fetchall()
        current = {job: frozenset(prints) for job, prints in accepted.items()}
        jobs: dict[str, dict[str, int]] = {
            job: dict.fromkeys((*State, "stale"), 0) for job in accepted
        }
        files = tombstones = 0
        for text, deleted, n in rows:
            if deleted:
                tombstones += n
                continue
            files += n
            for job, state, fingerprint in _parse_signature(text):
                if job in jobs:
                    stale = state == State.DONE and fingerprint not in current[job]
                    jobs[job]["stale" if stale else state] += n
        plain = {job: {str(s): n for s, n in states.items()} for job, states in jobs.items()}
        return LedgerCounts(files=files, deleted=tombstones, jobs=plain)

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        where, values = ["uri > ?"], []
        if query.prefix:
            where.append("uri >= ?")
            values.append(query.prefix)
        if (end := find_prefix_end(query.prefix)) is not None:
            where.append("uri < ?")
            values.append(end)
        if query.deleted is not None:
            where.append(f"deleted = {int(query.deleted)}")
        with self._session():
            if query.job is not None or query.pending:
                batch = self._find_signatures(query)
                where.append(f"signature IN ({','.join(map(str, batch))})")
            select = (
                "SELECT uri, revision, record FROM files "  # noqa: S608
                f"WHERE {' AND '.join(where)} ORDER BY uri LIMIT ?"
            )
            found: list[Record] = []
            left = limit
            while left:  # more than once only if some records are damaged
                rows = self._db.execute(select, (after, *values, left)).fetchall()
                for uri, revision, data in rows:
                    record = self._to_snapshot(uri, (revision, data)).record
                    found += [] if record is None else [record]
                    after = uri
                left = limit - len(found) if len(rows) == left else 0
        return found

    def _to_snapshot(self, uri: str, row: tuple[int, bytes] | None) -> Snapshot:
        if row is None:
            return Snapshot(record=None)
        revision, data = row
        try:
            record = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
            reason = str(error)
        else:
            if record.uri == uri:
                return Snapshot(record=record, revision=revision)
            reason = "it is of another file"
        where = f"the ledger {self._path!r}"
        return Snapshot(record=None, revision=revision, damage=self.damage.add(uri, where, reason))

    def _find_signatures(self, query: Query) -> list[int]:
        """Return the signatures of records that match a query's job, state and pending targets."""
        rows = self._db.execute("SELECT id, text FROM signatures").fetchall()
        if query.pending:
            rows = [row for row in rows if row[1].endswith(PENDING)]
        if query.job is None:
            return [i for i, _ in rows]
        return [
            i
            for i, text in rows
            if any(
                j == query.job and query.state in (None, s) for j, s, _ in _parse_signature(text)
            )
        ]


def _parse_signature(signature: str) -> Iterator[tuple[str, str, str]]:
    entries = signature.removesuffix(PENDING)
    for part in entries.split(";") if entries else ():
        job, state, fingerprint = part.split(":")
        yield job, state, fingerprint
