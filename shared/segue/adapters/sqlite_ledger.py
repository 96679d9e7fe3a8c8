"""The embedded ledger: one SQLite file, shared by several processes.

There is one row per file, with the record as JSON, in the order of the URIs: catalogues are
processed in that order, so neighbours share pages, and a batch of writes touches few (keys without
order cost three times as much). Counts and state queries need only one small column: the
*signature* of a record's entries (which job is in which state under which fingerprint, and whether
targets are pending). A catalogue has few different ones, so counting millions of entries reads one
narrow index.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from segue.adapters.sqlite_errors import translate_sqlite_errors
from segue.errors import ConfigurationError
from segue.model.ledger import Change, Changed, LedgerCounts, Query, Snapshot
from segue.model.record import Record, State

T = TypeVar("T")

SCHEMA_VERSION = 1
SCHEMA = """
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
PENDING = "!"  # ends the signature of a record with pending targets
BATCH = 500
BUSY_TIMEOUT_S = 60.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


class SqliteLedger:
    """The ledger in a file."""

    def __init__(self, path: str, *, busy_s: float = BUSY_TIMEOUT_S) -> None:
        self._path = os.path.abspath(os.path.expanduser(path))
        self._lock = threading.RLock()
        self._signatures: dict[str, int] = {}
        with _translate_errors(self._path):
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            self._db = sqlite3.connect(
                self._path, timeout=busy_s, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA page_size = 16384")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA cache_size = -8192")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            with self._transaction():
                if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
                    for statement in SCHEMA.split(";\n"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise ConfigurationError(
                f"the ledger {self._path!r} has schema {version}, this version of Segue reads "
                f"{SCHEMA_VERSION}; use the Segue that wrote it, or set SEGUE_LEDGER to another "
                "path"
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled it back already
                self._db.execute("ROLLBACK")
            self._signatures.clear()  # some of them may have been rolled back
            raise

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        with self._lock, _translate_errors(self._path):
            rows = self._read_rows(uris)
        return [_to_snapshot(rows.get(uri)) for uri in uris]

    def _read_rows(self, uris: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        rows: dict[str, tuple[int, bytes]] = {}
        for start in range(0, len(uris), BATCH):
            batch = uris[start : start + BATCH]
            found = self._db.execute(
                "SELECT uri, revision, record FROM files WHERE uri IN "  # noqa: S608
                + _format_placeholders(len(batch)),
                batch,
            )
            for uri, revision, record in found:
                rows[uri] = (revision, record)
        return rows

    def _read_revisions(self, uris: Sequence[str]) -> dict[str, int]:
        return dict(
            self._db.execute(
                "SELECT uri, revision FROM files WHERE uri IN " + _format_placeholders(len(uris)),  # noqa: S608
                uris,
            )
        )

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        changed: list[Changed[T]] = []
        with self._lock, _translate_errors(self._path):
            for start in range(0, len(changes), BATCH):
                with self._transaction():
                    changed += self._change(changes[start : start + BATCH])
        return changed

    def _change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        revisions = self._read_revisions([c.uri for c in changes])
        unknown = [
            c.uri for c in changes if c.known is None or c.known.revision != revisions.get(c.uri)
        ]
        fresh = self._read_rows(unknown) if unknown else {}
        inserts: list[tuple[Any, ...]] = []
        updates: list[tuple[Any, ...]] = []
        changed: list[Changed[T]] = []
        for change in changes:
            uri = change.uri
            revision = revisions.get(uri)
            if change.known is not None and change.known.revision == revision:
                snapshot = change.known
            else:
                snapshot = _to_snapshot(fresh.get(uri))
            old = snapshot.record
            new, answer = change.transition(old)
            if new is not None and new is not old:
                deleted = new.deleted_at is not None
                signature = self._intern_signature(new)
                if revision is None:
                    inserts.append((uri, 1, deleted, signature, _encode(new)))
                    snapshot = Snapshot(record=new, revision=1)
                else:
                    updates.append((revision + 1, deleted, signature, _encode(new), uri))
                    snapshot = Snapshot(record=new, revision=revision + 1)
            changed.append(Changed(snapshot=snapshot, answer=answer))
        if inserts:
            self._db.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?)", inserts)
        if updates:
            self._db.executemany(
                "UPDATE files SET revision = ?, deleted = ?, signature = ?, record = ? WHERE "
                "uri = ?",
                updates,
            )
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
        with self._lock, _translate_errors(self._path):
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
        where, values = ["uri > ?"], [after]
        if query.prefix:
            where += ["uri >= ?", "uri < ?"]
            values += [query.prefix, query.prefix + "\U0010ffff"]
        if query.deleted is not None:
            where.append(f"deleted = {int(query.deleted)}")
        with self._lock, _translate_errors(self._path):
            if query.job is not None or query.pending:
                batch = self._find_signatures(query)
                where.append(f"signature IN ({','.join(map(str, batch))})")
            rows = self._db.execute(
                f"SELECT record FROM files WHERE {' AND '.join(where)} ORDER BY uri LIMIT ?",  # noqa: S608
                (*values, limit),
            ).fetchall()
        return [_decode(row[0]) for row in rows]

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

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _format_placeholders(count: int) -> str:
    return f"({','.join('?' * count)})"


def _to_snapshot(row: tuple[int, bytes] | None) -> Snapshot:
    return (
        Snapshot(record=None) if row is None else Snapshot(record=_decode(row[1]), revision=row[0])
    )


def _parse_signature(signature: str) -> Iterator[tuple[str, str, str]]:
    entries = signature.removesuffix(PENDING)
    for part in entries.split(";") if entries else ():
        job, state, fingerprint = part.split(":")
        yield job, state, fingerprint


_translate_errors = functools.partial(
    translate_sqlite_errors,
    noun="ledger",
    variable="SEGUE_LEDGER",
    if_damaged="restore it from a backup",
)
