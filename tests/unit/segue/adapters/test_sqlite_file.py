"""What the ledger and the queue say about a file that they cannot use."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3

import pytest

from segue.adapters.sqlite_file import SqliteFile
from segue.adapters.sqlite_ledger import SqliteLedger
from segue.adapters.sqlite_queue import SqliteQueue
from segue.errors import ConfigurationError, Contended

KINDS = [SqliteLedger, SqliteQueue]


@pytest.fixture(params=KINDS)
def kind(request) -> type[SqliteFile]:
    return request.param


@pytest.fixture
def path(tmp_path) -> str:
    return f"{tmp_path}/made/file.db"


def test_a_database_of_another_kind_is_left_alone(kind, path):
    (other,) = {*KINDS} - {kind}
    other(path).close()
    with pytest.raises(ConfigurationError, match=rf"another database, not a {kind.noun}; set SEG"):
        kind(path)
    other(path).close()


def test_a_later_schema_is_left_alone(kind, path):
    opened = kind(path)
    opened._db.execute("PRAGMA user_version = 9")
    opened.close()
    reads = rf"the {kind.noun} .* has schema 9, .* reads {kind.version}; use the Segue that wrote"
    with pytest.raises(ConfigurationError, match=reads):
        kind(path)


def test_a_queue_of_the_first_schema_says_how_to_do_without_it(path):
    queue = SqliteQueue(path)
    queue._db.execute("PRAGMA user_version = 1")
    queue.close()
    remedy = r"has schema 1, .* reads 2; .*set SEGUE_QUEUE to another path and run 'segue sweep'"
    with pytest.raises(ConfigurationError, match=remedy):
        SqliteQueue(path)


def test_a_file_that_is_no_database_is_named(kind, tmp_path):
    (tmp_path / "song.wav").write_bytes(b"RIFF" * 1000)
    with pytest.raises(ConfigurationError, match=rf"is not a {kind.noun}, or is damaged"):
        kind(f"{tmp_path}/song.wav")


def test_a_path_below_a_file_cannot_be_made(kind, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=rf"cannot be made .*{kind.variable}"):
        kind(f"{tmp_path}/file/file.db")


def test_a_file_that_others_lock_for_too_long_is_contended(kind, path):
    opened = kind(path, busy_s=0.05)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with (
        pytest.raises(Contended, match=rf"the {kind.noun} .* is locked by another process"),
        opened._session(),
        opened._transaction(),
    ):
        pass
    writer.close()
    with opened._session(), opened._transaction():  # nothing is left over
        pass
    opened.close()


def test_one_that_is_closed_says_so(kind, path):
    opened = kind(path)
    opened.close()
    with pytest.raises(ConfigurationError, match="is closed; connect again"), opened._session():
        pass


def test_the_stored_format_is_that_of_earlier_versions(path):
    """A file of another version of Segue must open, so these may change only on purpose."""
    ledger = SqliteLedger(path)
    tables = dict(ledger._db.execute("SELECT name, type FROM sqlite_schema WHERE sql NOT NULL"))
    assert tables == {
        "about": "table",
        "signatures": "table",
        "files": "table",
        "files_by_signature": "index",
    }
    settings = [ledger._read_pragma(n) for n in ("user_version", "application_id", "page_size")]
    assert settings == [2, 0, 16384]
    ledger.close()
    queue = SqliteQueue(f"{path}.queue")
    tables = dict(queue._db.execute("SELECT name, type FROM sqlite_schema WHERE sql NOT NULL"))
    assert tables == {
        "subscriptions": "table",
        "subscriptions_of_topics": "index",
        "holders": "table",
        "letters": "table",
        "visible_letters": "index",
        "hidden_letters": "index",
        "sqlite_sequence": "table",
    }
    settings = [queue._read_pragma(n) for n in ("user_version", "application_id")]
    assert settings == [2, 0x53475145]
    queue.close()


@pytest.mark.parametrize("part", ["", "-wal", "-shm"])
@pytest.mark.parametrize("replaced", [False, True])
def test_one_that_is_deleted_or_replaced_while_it_is_in_use_is_noticed(kind, path, part, replaced):
    opened = kind(path)
    if replaced:
        shutil.copy(path + part, path + ".copy")
        os.replace(path + ".copy", path + part)
    else:
        os.unlink(path + part)
    message = rf"the {kind.noun} .* was deleted, moved or replaced while it was in use; end all"
    with pytest.raises(ConfigurationError, match=message), opened._session():
        pass


def test_one_that_is_deleted_during_a_transaction_is_noticed(kind, path):
    opened = kind(path)
    with (
        pytest.raises(ConfigurationError, match="deleted, moved or replaced"),
        opened._session(),
        opened._transaction(),
    ):
        os.unlink(path)


def test_what_was_written_is_on_the_disk_after_a_sync(kind, path, monkeypatch):
    opened = kind(path)
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}"))
    )
    opened.sync()
    assert synced == [f"{path}-wal", os.path.dirname(path)]
    synced.clear()
    opened.sync()
    assert synced == []  # nothing was written since
    for end in (opened.sync, opened.close):
        with opened._session(), opened._transaction():
            opened._db.execute("PRAGMA user_version = 1")
        end()
        assert synced == [f"{path}-wal"]  # which keeps its name
        synced.clear()


def test_what_another_process_has_written_is_on_the_disk_after_a_sync(kind, path, monkeypatch):
    reader, writer = kind(path), kind(path)
    reader.sync()
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with writer._session(), writer._transaction():
        writer._db.execute("PRAGMA user_version = 1")
    reader.sync()
    assert synced != []
    synced.clear()
    reader.sync()
    assert synced == []


def test_a_failed_sync_is_not_tried_again(kind, path, monkeypatch):
    """The system reports a lost write once; the next try would succeed without it."""
    opened = kind(path)

    def fail(_handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigurationError, match=rf"the {kind.noun} .* has lost what was written"):
        opened.sync()
