"""What is paused and cancelled: one suite for the ledger in memory, in SQLite and in Firestore."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.cloud import firestore

from segue.adapters.connect import connect_ledger, open_ledger_to_read
from segue.adapters.firestore import CONTROLS
from segue.errors import ConfigurationError
from segue.model.controls import (
    EVERY_JOB,
    KEPT,
    NO_CONTROLS,
    Controls,
    cancel_run,
    forget_run,
    pause_jobs,
    resume_jobs,
)
from segue.model.ledger import Ledger, Query
from segue_support.ledger import MemoryLedger

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EMULATED = pytest.mark.xdist_group("firestore")


def _memory(request: pytest.FixtureRequest) -> Callable[[], Ledger]:
    ledger = MemoryLedger()
    return lambda: ledger


def _sqlite(request: pytest.FixtureRequest) -> Callable[[], Ledger]:
    folder: Path = request.getfixturevalue("tmp_path")
    return lambda: connect_ledger(f"sqlite:///{folder}/ledger.db")


def _firestore(request: pytest.FixtureRequest) -> Callable[[], Ledger]:
    url: str = request.getfixturevalue("firestore_url")
    return lambda: connect_ledger(url)


@pytest.fixture(
    params=[
        pytest.param(_memory, id="memory"),
        pytest.param(_sqlite, id="sqlite"),
        pytest.param(_firestore, id="firestore", marks=EMULATED),
    ]
)
def connect(request: pytest.FixtureRequest) -> Callable[[], Ledger]:
    return request.param(request)


def pause(*jobs: str, by: str = "ann@laptop"):
    return lambda found: pause_jobs(found, jobs, by=by, now=NOW)


def test_a_new_ledger_has_no_controls(connect):
    ledger = connect()
    assert ledger.read_controls() == NO_CONTROLS
    assert ledger.find(Query()) == []


def test_what_one_process_changes_another_one_reads(connect):
    ledger, other = connect(), connect()
    changed = ledger.change_controls(pause("beats"))
    assert other.read_controls() == ledger.read_controls() == changed
    assert changed.find_pause("beats").by == "ann@laptop"
    assert changed.find_pause("beats").at == NOW
    assert changed.select_paused(["beats", "energy"]) == {"beats"}
    assert other.change_controls(lambda found: resume_jobs(found, ())) == NO_CONTROLS
    assert ledger.read_controls() == NO_CONTROLS


def test_controls_are_no_file(connect):
    ledger = connect()
    ledger.change_controls(pause("beats"))
    assert ledger.find(Query()) == []
    assert ledger.count({"beats": ["0" * 12]}).files == 0


def test_a_change_that_raises_changes_nothing(connect):
    ledger = connect()
    ledger.change_controls(pause())
    with pytest.raises(ConfigurationError, match="all jobs are paused"):
        ledger.change_controls(lambda found: resume_jobs(found, ["beats"]))
    assert set(ledger.read_controls().paused) == {EVERY_JOB}


def test_changes_at_the_same_time_are_all_made(connect):
    ledgers = [connect() for _ in range(3)]
    barrier = threading.Barrier(3)

    def change(number: int) -> None:
        barrier.wait()
        for turn in range(3):
            ledgers[number].change_controls(pause(f"job-{number}-{turn}"))

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(change, range(3)))
    assert len(ledgers[0].read_controls().paused) == 9


def test_a_ledger_that_knew_no_controls_gets_them(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    connect_ledger(url).close()
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
        assert "controls" not in names
    ledger = open_ledger_to_read(url)
    assert ledger.read_controls() == NO_CONTROLS
    connect_ledger(url).change_controls(pause("beats"))
    assert ledger.read_controls().find_pause("beats") is not None


def _damage_sqlite(request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue("tmp_path") / "ledger.db"
    with sqlite3.connect(path) as db:
        db.execute("UPDATE controls SET value = '['")


def _damage_firestore(request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("firestore_url")
    client = firestore.Client(project=url.removeprefix("firestore://"))
    client.document(*CONTROLS).set({"value": "["})


@pytest.mark.parametrize(
    ("connect", "damage"),
    [
        pytest.param(_sqlite, _damage_sqlite, id="sqlite"),
        pytest.param(_firestore, _damage_firestore, id="firestore", marks=EMULATED),
    ],
)
def test_controls_that_cannot_be_read_are_refused(request, connect, damage):
    ledger = connect(request)()
    ledger.change_controls(pause("beats"))
    damage(request)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ledger.read_controls()


def test_the_first_pause_of_a_job_counts():
    first = pause("beats")(NO_CONTROLS)
    assert pause("beats", by="bob@desk")(first) == first
    everything = pause(by="bob@desk")(first)
    assert everything.find_pause("beats").by == "ann@laptop"
    assert everything.find_pause("energy").by == "bob@desk"
    assert pause("energy")(everything) == everything
    assert resume_jobs(first, ["energy"]) == first
    assert resume_jobs(everything, ()) == NO_CONTROLS


def test_a_cancelled_run_is_remembered_until_it_ends_or_for_a_week():
    one = cancel_run(NO_CONTROLS, "1", by="ann@laptop", now=NOW)
    assert cancel_run(one, "1", by="bob@desk", now=NOW) == one
    both = cancel_run(one, "2", by=None, now=NOW + timedelta(days=6), reason="too many failures")
    assert set(both.cancelled) == {"1", "2"}
    assert set(cancel_run(both, "3", by=None, now=NOW + KEPT).cancelled) == {"2", "3"}
    assert set(forget_run(both, "1").cancelled) == {"2"}
    assert forget_run(both, "9") == both
    assert Controls() == forget_run(forget_run(both, "1"), "2")
