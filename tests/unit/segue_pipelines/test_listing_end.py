"""A run's files are listed until some seconds after it was cancelled."""

from __future__ import annotations

from contextlib import closing

import pytest

from segue.adapters.connect import connect_ledger
from segue.adapters.sqlite_ledger import SqliteLedger
from segue.clock import utc_now
from segue.errors import Unavailable
from segue.model.controls import READ_S, cancel_run
from segue_pipelines.listing_end import ListedRun


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


def cancel(url: str, run: str) -> None:
    with closing(connect_ledger(url)) as ledger:
        ledger.change_controls(lambda found: cancel_run(found, run, by=None, now=utc_now()))


def list_chunks(url: str, seconds: float, on: dict | None = None) -> list[int]:
    """List 100 chunks, each of which takes some time; return those that were listed."""
    now_s = [0.0]

    def chunks():
        for number in range(100):
            now_s[0] += seconds
            if on and number in on:
                on[number]()
            yield number

    run = ListedRun(id="run1", ledger=url, namespace="default")
    return list(run.list_until_cancelled(chunks(), lambda: now_s[0]))


def test_nothing_is_opened_or_created_while_a_short_listing_goes_on(url, tmp_path):
    assert len(list_chunks(url, READ_S / 200)) == 100
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_not_cancelled_is_listed_to_its_end(url, tmp_path):
    assert len(list_chunks(url, READ_S)) == 100  # there is no ledger yet
    cancel(url, "run2")
    assert len(list_chunks(url, READ_S)) == 100


def test_a_run_that_was_cancelled_is_listed_some_seconds_more(url):
    cancel(url, "run2")
    assert list_chunks(url, READ_S / 2, on={9: lambda: cancel(url, "run1")}) == list(range(11))


def test_a_short_listing_is_not_cut_so_that_all_its_files_count(url):
    cancel(url, "run1")
    assert len(list_chunks(url, READ_S / 60)) == 100


def test_a_ledger_that_is_away_for_a_moment_ends_nothing(url, monkeypatch):
    cancel(url, "run1")
    read, away = SqliteLedger.read_controls, [Unavailable("no route")]

    def read_controls(ledger):
        if away:
            raise away.pop()
        return read(ledger)

    monkeypatch.setattr(SqliteLedger, "read_controls", read_controls)
    assert list_chunks(url, READ_S) == [0, 1]
