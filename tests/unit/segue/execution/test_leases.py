"""At the end of a run its leases are released, and no others."""

from __future__ import annotations

import signal
from datetime import UTC, datetime

import pytest

from segue.adapters.connect import connect_ledger
from segue.errors import Unavailable
from segue.execution import leases
from segue.execution.leases import release_at_exit
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.transitions import arrive, claim

GRAPH = parse_graph(
    """
namespace: moods
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
"""
)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FILES = [MediaFile(uri=f"gs://b/{n:03}.wav", version="v1", order=1) for n in range(600)]


@pytest.fixture
def url(tmp_path) -> str:
    """A ledger in which every third file is held by another owner."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = connect_ledger(url, GRAPH.namespace)
    changes = []
    for n, media in enumerate(FILES):
        owner = "me" if n % 3 else "another"
        record, _ = arrive(None, media, NOW)
        record = claim(record, GRAPH, ("a", "b"), owner=owner, now=NOW, lease_s=60)
        changes.append(Change(uri=media.uri, transition=lambda _, made=record: (made, None)))
    ledger.change(changes)
    ledger.close()
    return url


def count_running(url: str) -> int:
    ledger = connect_ledger(url, GRAPH.namespace)
    counts = ledger.count(GRAPH.accepted)
    ledger.close()
    return sum(states.get("running", 0) for states in counts.jobs.values())


def test_the_leases_of_a_run_are_released_and_no_others(url):
    handler = signal.getsignal(signal.SIGINT)
    assert count_running(url) == 1200
    release_at_exit(url, GRAPH.namespace, lambda lease: lease.owner == "me")
    assert count_running(url) == 400
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_does_not_keep_leases_from_being_released(url, monkeypatch):
    def connect(url: str, namespace: str) -> object:
        signal.raise_signal(signal.SIGINT)
        return connect_ledger(url, namespace)

    monkeypatch.setattr(leases, "connect_ledger", connect)
    release_at_exit(url, GRAPH.namespace, lambda lease: lease.owner == "me")
    assert count_running(url) == 400


def test_a_ledger_that_is_away_is_no_second_error(url, monkeypatch, tmp_path):
    def connect(_url: str, _namespace: str) -> object:
        raise Unavailable("away")

    monkeypatch.setattr(leases, "connect_ledger", connect)
    release_at_exit(url, GRAPH.namespace, lambda _: True)
    release_at_exit(f"sqlite:///{tmp_path}/none.db", GRAPH.namespace, lambda _: True)
    assert not (tmp_path / "none.db").exists()
