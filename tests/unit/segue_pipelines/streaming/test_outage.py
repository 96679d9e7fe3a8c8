"""An outage: logged once, and retried after longer and longer pauses."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from segue.errors import DiskFull, Unavailable
from segue_pipelines.streaming.outage import BACKOFF, Outage


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def logged(caplog, monkeypatch):
    """Return a function that lists the logged events."""
    monkeypatch.setattr(logging.getLogger("segue"), "propagate", True)
    caplog.set_level(logging.INFO, logger="segue")
    return lambda: [r.segue for r in caplog.records if hasattr(r, "segue")]


def test_an_outage_is_logged_once_with_what_is_away(logged):
    outage = Outage(clock=Clock())
    for _ in range(3):
        outage.record_failure(Unavailable("the ledger is away"), what="ledger")
    (line,) = logged()
    assert line["action"] == "unavailable"
    assert (line["what"], line["error"]) == ("ledger", "the ledger is away")
    outage.record_success()
    outage.record_failure(Unavailable("again"), what="ledger")
    assert len(logged()) == 2


def test_a_full_disk_is_logged_as_an_error(logged):
    Outage().record_failure(DiskFull("free some room"), what="work")
    (line,) = logged()
    assert (line["severity"], line["kind"]) == ("ERROR", "disk_full")


def test_the_pauses_double_up_to_a_limit_and_start_again():
    clock = Clock()
    outage = Outage(clock=clock, backoff=replace(BACKOFF, jitter=0.0))
    pauses = []
    for _ in range(12):
        outage.record_failure(Unavailable("away"), what="queue")
        pauses.append(outage.left_s)
    assert pauses[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert pauses[-1] == BACKOFF.longest_s
    clock.seconds += BACKOFF.longest_s
    assert outage.left_s == 0.0
    assert outage.is_on
    outage.record_success()
    assert not outage.is_on
    outage.record_failure(Unavailable("away"), what="queue")
    assert outage.left_s == pytest.approx(0.1)
