"""An SQLite file that threads and processes share: its opening, its transactions, its errors.

After a power cut the last transactions may be missing (``synchronous = NORMAL``), but none before
the last ``sync``, and none out of order. Waiting for the disk in each transaction would make
arrivals and acknowledgements, which come one at a time, ten times slower.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

from segue.backoff import Backoff, retry
from segue.errors import (
    ConfigurationError,
    Contended,
    DatabaseReplaced,
    DiskFull,
    Unavailable,
)

BUSY_TIMEOUT_S = 60.0
OPENING, OPENING_ATTEMPTS = Backoff(0.01, 0.1), 20
IN_MEMORY = ":memory:"
PARTS = ("", "-wal", "-shm")  # suffixes of the files that a database in use consists of


class SqliteFile:
    """A database that only one thread uses at a time.

    Parameters
    ----------
    path : str
        The file, created with its folder if it does not exist; ``:memory:`` means none.
    busy_s : float
        How long to wait while other processes write.
    """

    noun: ClassVar[str]  # what it is called in errors
    variable: ClassVar[str]  # the setting with its path
    if_damaged: ClassVar[str]  # what to do then
    application_id: ClassVar[int] = 0  # tells one kind of database from others
    version: ClassVar[int] = 1  # of the schema
    schema: ClassVar[str]
    pragmas: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: str, *, busy_s: float = BUSY_TIMEOUT_S) -> None:
        self._path = path if path == IN_MEMORY else os.path.abspath(os.path.expanduser(path))
        self._lock = threading.RLock()
        self._closed = False
        self._is_synced = True  # what this process has written
        self._synced_version: int | None = None
        self._is_named = False  # the names of the files, which stay, are on the disk
        self._files: tuple[tuple[int, int] | None, ...] = ()  # those that were opened
        with self._translate_errors():
            if path != IN_MEMORY:
                _make_folders(os.path.dirname(self._path))
            self._db = sqlite3.connect(
                self._path, timeout=busy_s, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
                self._files = self._identify_files()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        for pragma in (*self.pragmas, "journal_mode = WAL", "synchronous = NORMAL"):
            # SQLite does not wait for others that make or close the file at this moment.
            retry(
                partial(self._db.execute, f"PRAGMA {pragma}"),
                backoff=OPENING,
                should_retry=lambda error: "locked" in str(error),
                attempts=OPENING_ATTEMPTS,
            )
        if self._is_new():
            with self._transaction():
                if self._is_new():  # no other process has created it since
                    for statement in self.schema.split(";\n"):
                        self._db.execute(statement)
                    self._fill()
                    self._db.execute(f"PRAGMA application_id = {self.application_id}")
                    self._db.execute(f"PRAGMA user_version = {self.version}")
        if self._read_pragma("application_id") != self.application_id:
            raise ConfigurationError(
                f"{self._path!r} is another database, not a {self.noun}; set {self.variable} to "
                "another path"
            )
        version = self._read_pragma("user_version")
        if version != self.version:
            raise ConfigurationError(
                f"the {self.noun} {self._path!r} has schema {version}, this version of Segue reads "
                f"{self.version}; use the Segue that wrote it, or {self._describe_new_start()}"
            )

    def _fill(self) -> None:
        """Write the first rows of a file, in the transaction that creates its tables."""

    def _describe_new_start(self) -> str:
        """Return what to do to leave this file as it is, and to begin with an empty one."""
        return f"set {self.variable} to another path"

    def _is_new(self) -> bool:
        return not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]

    def _read_pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        """Let one thread at a time use the file, with errors translated.

        If somebody has deleted or replaced it, what is read and written would be in a file without
        a name; that is noticed before, and after what was written is thought to be recorded.
        """
        with self._lock:
            if self._closed:
                raise ConfigurationError(f"the {self.noun} {self._path!r} is closed; connect again")
            self._check_files()
            with self._translate_errors():
                yield
            self._check_files()

    def _identify_files(self) -> tuple[tuple[int, int] | None, ...]:
        """Return device and number of each of the database's files; None of one that is not."""
        if self._path == IN_MEMORY:
            return ()
        return tuple(_identify_file(self._path + part) for part in PARTS)

    def _check_files(self) -> None:
        if not self._closed and self._identify_files() != self._files:
            raise DatabaseReplaced(
                f"the {self.noun} {self._path!r}, or its -wal or -shm file, was deleted, moved or "
                f"replaced while it was in use; end all processes that use it, {self.if_damaged}, "
                "and run again"
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Open a transaction that locks the file at once."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
            self._is_synced = False
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled it back already
                self._db.execute("ROLLBACK")
            self._forget_rows()
            raise

    def _forget_rows(self) -> None:
        """Forget the ids of known rows: some of them may have been rolled back."""

    def sync(self) -> None:
        """Return once all transactions survive a power cut, also those of other processes.

        Whoever has read a result of another process may act on it, as on one of its own.
        """
        with self._session():
            version = self._read_pragma("data_version")  # others' commits change it
            self._is_synced = self._is_synced and version == self._synced_version
            self._sync()
            self._synced_version = version

    def _sync(self) -> None:
        if self._is_synced or self._path == IN_MEMORY:
            return
        # SQLite has written them to this file, and moves them to the database when it is long. It
        # has no locks there that closing the file would release.
        folder = () if self._is_named else (os.path.dirname(self._path),)
        for path in (self._path + "-wal", *folder):
            try:
                _sync_path(path)
            except FileNotFoundError:  # a file system without shared memory has none
                pass
            except OSError as error:
                # The next try would succeed: the system reports a lost write only once.
                raise ConfigurationError(
                    f"the {self.noun} {self._path!r} has lost what was written last "
                    f"({error.strerror}); end all processes that use it, check the disk, "
                    f"{self.if_damaged}, and run again"
                ) from error
        self._is_synced = self._is_named = True

    def close(self) -> None:
        """Sync the file, and close it."""
        with self._lock, self._translate_errors():
            try:
                if not self._closed:
                    self._sync()
            finally:
                self._closed = True
                self._db.close()

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate the errors of SQLite, and of making its file, into Segue's."""
        name = f"the {self.noun} {self._path!r}"
        elsewhere = f"set {self.variable} to another path"
        try:
            yield
        except sqlite3.OperationalError as error:
            if self._files:
                self._check_files()
            text = str(error)
            if "locked" in text or "busy" in text:
                raise Contended(
                    f"{name} is locked by another process ({text}); try again when it has finished"
                ) from error
            if "full" in text:
                raise DiskFull(
                    f"no room is left for {name}; free some space, and run again"
                ) from error
            if "unable to open" in text or "readonly" in text:
                raise ConfigurationError(f"{name} is not writable ({text}); {elsewhere}") from error
            raise Unavailable(f"{name}: {text}; try again later") from error
        except sqlite3.DatabaseError as error:
            if self._files:
                self._check_files()
            raise ConfigurationError(
                f"{self._path!r} is not a {self.noun}, or is damaged ({error}); "
                f"{self.if_damaged}, or {elsewhere}"
            ) from error
        except OSError as error:  # only from making its folder
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"no room is left for {name}; free some space, and run again"
                ) from error
            raise ConfigurationError(
                f"{name} cannot be made ({error.strerror}); {elsewhere}"
            ) from error


def _identify_file(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _make_folders(folder: str) -> None:
    """Create a folder and its parents, and have their names survive a power cut."""
    above = os.path.dirname(folder)
    if not os.path.isdir(folder) and above != folder:
        _make_folders(above)
        os.makedirs(folder, exist_ok=True)
        _sync_path(above)


def _sync_path(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
