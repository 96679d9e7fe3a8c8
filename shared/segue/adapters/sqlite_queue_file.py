"""The file of the embedded queue: its tables, its transactions, and the translation of its errors.

There is one row per envelope (a "letter" in the schema), in the order of publishing. A pulled
envelope stays in its row, hidden until a deadline, with the number of its holder. Two partial
indexes, of visible and of hidden rows, keep the cost of a call proportional to the envelopes that
it handles, however many there are; for the same reason each topic counts its envelopes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Iterator

from segue.adapters.sqlite_errors import translate_sqlite_errors
from segue.errors import ConfigurationError

APPLICATION_ID = 0x53475145  # identifies a queue; the ledger is an SQLite file, too
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE topics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    letters INTEGER NOT NULL
);
CREATE TABLE holders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- a check of a holder may be late
    owner TEXT NOT NULL
);
CREATE TABLE letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- an ack id must never match a later row
    topic INTEGER NOT NULL,
    hidden_until INTEGER,  -- microseconds since 1970; NULL: it can be pulled
    holder INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    attributes BLOB,  -- JSON; NULL: none
    data BLOB NOT NULL
);
CREATE INDEX visible_letters ON letters (topic) WHERE hidden_until IS NULL;
CREATE INDEX hidden_letters ON letters (hidden_until) WHERE hidden_until IS NOT NULL
"""
WAL_SIZE_BYTES = 16 << 20  # the most that stays on disk after a large publication


def open_file(path: str, *, busy_s: float) -> sqlite3.Connection:
    """Open a queue's file; create it, with its folder, if it does not exist."""
    with translate_errors(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        db = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db, path)
        except BaseException:
            db.close()
            raise
        return db


def _prepare(db: sqlite3.Connection, path: str) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA journal_size_limit = {WAL_SIZE_BYTES}")
    if _is_new(db):
        with open_transaction(db):
            if _is_new(db):  # no other process has created it since
                for statement in SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    if read_pragma(db, "application_id") != APPLICATION_ID:
        raise ConfigurationError(
            f"{path!r} is another database, not a queue; set SEGUE_QUEUE to another path"
        )
    version = read_pragma(db, "user_version")
    if version != SCHEMA_VERSION:
        raise ConfigurationError(
            f"the queue {path!r} has schema {version}, this version of Segue reads "
            f"{SCHEMA_VERSION}; use the Segue that wrote it, or set SEGUE_QUEUE to another path"
        )


def _is_new(db: sqlite3.Connection) -> bool:
    return not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]


def read_pragma(db: sqlite3.Connection, name: str) -> int:
    """Read a numeric pragma of SQLite."""
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


@contextlib.contextmanager
def open_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Open a transaction that locks the file at once."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has rolled it back already
            db.execute("ROLLBACK")
        raise


translate_errors = functools.partial(
    translate_sqlite_errors,
    noun="queue",
    variable="SEGUE_QUEUE",
    if_damaged="delete it and run 'segue sweep', which republishes what the ledger waits for",
)
