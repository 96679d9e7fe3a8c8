"""The file of the embedded queue: its tables, its transactions, and what SQLite says in our terms.

A row a letter, in the order of publishing. A letter that was handed over stays in its row, hidden
until a deadline and under the number of who holds it. Two partial indexes, one of what can be
pulled and one of what is hidden, keep each call's cost that of the letters it is about, however
many there are; for the same reason topics count their letters.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator

from segue.errors import ConfigurationError, Contended, DiskFull, Unavailable

APPLICATION_ID = 0x53475145  # tells it from another SQLite file, the ledger's for one
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE topics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    letters INTEGER NOT NULL
);
CREATE TABLE holders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- who looks whether they live may be late
    owner TEXT NOT NULL
);
CREATE TABLE letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- a receipt must never fit a later letter
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
LOG_SIZE_BYTES = 16 << 20  # what a large publication leaves on the disk


def open_file(path: str, *, busy_s: float) -> sqlite3.Connection:
    """Open a queue's file, made with its folder if it does not exist."""
    with errors(path):
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
    db.execute(f"PRAGMA journal_size_limit = {LOG_SIZE_BYTES}")
    if _is_new(db):
        with transaction(db):
            if _is_new(db):  # no other process was faster
                for statement in SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    if pragma(db, "application_id") != APPLICATION_ID:
        raise ConfigurationError(
            f"{path!r} is another database, not a queue; choose another with SEGUE_QUEUE"
        )
    version = pragma(db, "user_version")
    if version != SCHEMA_VERSION:
        raise ConfigurationError(
            f"the queue {path!r} has schema {version}, this version of Segue reads "
            f"{SCHEMA_VERSION}; use the Segue that wrote it, or another SEGUE_QUEUE"
        )


def _is_new(db: sqlite3.Connection) -> bool:
    return not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]


def pragma(db: sqlite3.Connection, name: str) -> int:
    """Read one of SQLite's numbers."""
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Write all or nothing; the file is locked from the beginning."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has rolled it back already
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def errors(path: str) -> Iterator[None]:
    """Say in Segue's terms what SQLite said."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise Contended(
                f"the queue {path!r} is locked by another process ({text}); try again when it "
                "has finished"
            ) from error
        if "full" in text:
            raise DiskFull(
                f"no room is left for the queue {path!r}; free some, and run again"
            ) from error
        if "unable to open" in text or "readonly" in text:
            raise ConfigurationError(
                f"the queue {path!r} cannot be written ({text}); choose another with SEGUE_QUEUE"
            ) from error
        raise Unavailable(f"the queue {path!r}: {text}") from error
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(
            f"{path!r} is not a queue, or is damaged ({error}); remove it, and 'segue sweep' "
            "publishes anew what the ledger waits for; or use another SEGUE_QUEUE"
        ) from error
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"the queue {path!r} cannot be made ({error.strerror}); choose another with SEGUE_QUEUE"
        ) from error
