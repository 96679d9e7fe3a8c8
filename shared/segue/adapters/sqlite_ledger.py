"""The embedded ledger: one SQLite file, shared by several processes.

There is one row per file, with the record as JSON, in the order of the URIs: catalogues are
processed in that order, so neighbours share pages, and a batch of writes touches few (keys without
order cost three times as much). Counts and queries by term need only one small column: the
*signature* of a record, which is its open and its done terms. A catalogue has few different ones,
so counting millions of results reads one narrow index.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import sqlite3
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeVar

from segue.adapters.ledger_format import check_namespace, decode_snapshot, encode_record
from segue.adapters.sqlite_file import BUSY_TIMEOUT_S, SqliteFile
from segue.errors import ConfigurationError, DamagedRecord
from segue.model.controls import (
    NO_CONTROLS,
    ControlChange,
    Controls,
    decode_controls,
    encode_controls,
)
from segue.model.graph import DEFAULT_NAMESPACE
from segue.model.ledger import (
    Change,
    Changed,
    DamageReport,
    LedgerCounts,
    Query,
    Snapshot,
    find_prefix_end,
)
from segue.model.record import (
    FORMAT,
    Record,
    State,
    format_done_term,
    format_term,
    list_done_terms,
    list_open_terms,
)

T = TypeVar("T")

BATCH = 500
CONTROLS_TABLE = """
CREATE TABLE IF NOT EXISTS controls (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    value TEXT NOT NULL  -- JSON
)
"""


class SqliteLedger(SqliteFile):
    """The ledger in a file.

    Parameters
    ----------
    path : str
        The file, created with its folder if it does not exist; ``:memory:`` means none.
    namespace : str
        The namespace of the graph; the ledger of another one is refused.
    busy_s : float
        How long to wait while other processes write.
    """

    noun = "ledger"
    variable = "SEGUE_LEDGER"
    if_damaged = "restore it from a backup"
    version: ClassVar[int] = FORMAT
    pragmas = ("page_size = 16384", "cache_size = -8192")
    schema = """
CREATE TABLE about (namespace TEXT NOT NULL);
CREATE TABLE signatures (
    id INTEGER PRIMARY KEY,
    open TEXT NOT NULL,  -- terms, separated by spaces
    done TEXT NOT NULL,
    UNIQUE (open, done)
);
CREATE TABLE files (
    uri TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    signature INTEGER NOT NULL,
    record BLOB NOT NULL  -- JSON
) WITHOUT ROWID;
CREATE INDEX files_by_signature ON files (signature, deleted);
"""

    def __init__(
        self, path: str, *, namespace: str = DEFAULT_NAMESPACE, busy_s: float = BUSY_TIMEOUT_S
    ) -> None:
        self._namespace = namespace
        self._signatures: dict[tuple[str, str], int] = {}
        self.damage = DamageReport()
        super().__init__(path, busy_s=busy_s)

    def _prepare(self) -> None:
        super()._prepare()
        (found,) = self._db.execute("SELECT namespace FROM about").fetchone()
        check_namespace(repr(self._path), found, self._namespace)

    def _fill(self) -> None:
        self._db.execute("INSERT INTO about VALUES (?)", (self._namespace,))

    def _describe_new_start(self) -> str:
        root, extension = os.path.splitext(self._path)
        another = f"sqlite:///{root}-{self.version}{extension}"
        return f"start a new one: set SEGUE_LEDGER={another}, then run 'segue backfill'"

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
            revision = None if row is None else str(row[0])
            snapshot = change.known
            if snapshot is None or snapshot.revision != revision:
                snapshot = self._to_snapshot(change.uri, row)
                if snapshot.damage is not None:
                    damaged[change.uri] = snapshot.damage
                    continue
            old = snapshot.record
            new, answer = change.transition(old)
            if new is not None and new is not old:
                number = 1 if row is None else row[0] + 1
                snapshot = Snapshot(record=new, revision=str(number))
                signature = self._intern_signature(new)
                deleted = new.deleted_at is not None
                written.append((change.uri, number, deleted, signature, encode_record(new)))
            changed.append(Changed(snapshot=snapshot, answer=answer))
        self._db.executemany("REPLACE INTO files VALUES (?, ?, ?, ?, ?)", written)
        return changed

    def _intern_signature(self, record: Record) -> int:
        terms = " ".join(list_open_terms(record)), " ".join(list_done_terms(record))
        known = self._signatures.get(terms)
        if known is None:
            self._db.execute("INSERT OR IGNORE INTO signatures (open, done) VALUES (?, ?)", terms)
            row = self._db.execute("SELECT id FROM signatures WHERE open = ? AND done = ?", terms)
            known = self._signatures[terms] = int(row.fetchone()[0])
        return known

    def count(self, accepted: Mapping[str, Sequence[str]]) -> LedgerCounts:
        with self._session():
            rows = self._db.execute(
                "SELECT open, done, deleted, n FROM (SELECT signature, deleted, count(*) AS n "
                "FROM files GROUP BY signature, deleted) JOIN signatures ON id = signature"
            ).fetchall()
        jobs = {job: {**dict.fromkeys(map(str, State), 0), "stale": 0} for job in accepted}
        states = {
            format_term(j, own, s): (j, s) for j, (own, *_) in accepted.items() for s in State
        }
        current = {format_done_term(j, p): j for j, prints in accepted.items() for p in prints}
        done = {format_done_term(job): job for job in accepted}
        files = tombstones = 0
        for open_terms, done_terms, deleted, n in rows:
            if deleted:
                tombstones += n
                continue
            files += n
            terms = [*open_terms.split(), *done_terms.split()]
            for job, state in [states[term] for term in terms if term in states]:
                jobs[job][state] += n
            are_current = {current[term] for term in terms if term in current}
            for job in {done[term] for term in terms if term in done}:
                jobs[job]["done" if job in are_current else "stale"] += n
        return LedgerCounts(files=files, deleted=tombstones, jobs=jobs)

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        found: list[Record] = []
        left = limit
        with self._session():
            while left:  # more than once only if some records are damaged
                rows = self._find_rows(query, after, left)
                for uri, revision, data in rows:
                    record = self._to_snapshot(uri, (revision, data)).record
                    found += [] if record is None else [record]
                    after = uri
                left = limit - len(found) if len(rows) == left else 0
        return found

    def _find_rows(self, query: Query, after: str, limit: int) -> list[tuple[str, int, bytes]]:
        where, values = ["uri > ?"], [after]
        if query.prefix:
            where.append("uri >= ?")
            values.append(query.prefix)
        if (end := find_prefix_end(query.prefix)) is not None:
            where.append("uri < ?")
            values.append(end)
        if query.deleted is not None:
            where.append(f"deleted = {int(query.deleted)}")
        select = "SELECT uri, revision, record FROM files WHERE "
        if query.open is None:
            select += f"{' AND '.join(where)} ORDER BY uri LIMIT ?"
            return self._db.execute(select, (*values, limit)).fetchall()
        # The index has the files of each signature in order. Of several signatures at once, SQLite
        # would read and sort all files for each page.
        select += f"signature = ? AND deleted = 0 AND {' AND '.join(where)} ORDER BY uri"
        with contextlib.ExitStack() as opened:
            cursors = [
                opened.enter_context(contextlib.closing(self._db.execute(select, (one, *values))))
                for one in self._find_signatures(query.open)
            ]
            return list(itertools.islice(heapq.merge(*cursors), limit))

    def _find_signatures(self, term: str) -> list[int]:
        """Return the signatures of records that have an open term."""
        rows = self._db.execute("SELECT id, open FROM signatures").fetchall()
        return [i for i, terms in rows if term in terms.split()]

    def read_controls(self) -> Controls:
        with self._session():
            return self._read_controls()

    def change_controls(self, change: ControlChange) -> Controls:
        with self._session(), self._transaction():
            found = self._read_controls()
            changed = change(found)
            if changed != found:
                # A ledger of an earlier version of Segue has no such table.
                self._db.execute(CONTROLS_TABLE)
                values = (encode_controls(changed).decode(),)
                self._db.execute("REPLACE INTO controls VALUES (1, ?)", values)
        return changed

    def _read_controls(self) -> Controls:
        try:
            row = self._db.execute("SELECT value FROM controls").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return NO_CONTROLS
        if row is None:
            return NO_CONTROLS
        return decode_controls(row[0], f"the ledger {self._path!r}")

    def _to_snapshot(self, uri: str, row: tuple[int, bytes] | None) -> Snapshot:
        if row is None:
            return Snapshot(record=None)
        revision, data = row
        where = f"the ledger {self._path!r}"
        return decode_snapshot(uri, data, str(revision), where=where, damage=self.damage)
