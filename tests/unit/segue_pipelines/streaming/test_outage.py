"""An outage: told once, and waited for longer and longer."""

from __future__ import annotations

import logging

import pytest

from segue.errors import DiskFull, Unavailable
from segue_pipelines.streaming.outage import LONGEST_PAUSE_S, Outage


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def told(caplog, monkeypatch):
    """What is logged."""
    monkeypatch.setattr(logging.getLogger("segue"), "propagate", True)
    caplog.set_level(logging.INFO, logger="segue")
    return lambda: [r.segue for r in caplog.records if hasattr(r, "segue")]


def test_an_outage_is_told_once_with_what_is_away(told):
    outage = Outage(clock=Clock())
    for _ in range(3):
        outage.failed(Unavailable("the ledger is away"), what="ledger")
    (line,) = told()
    assert line["action"] == "unavailable"
    assert (line["what"], line["error"]) == ("ledger", "the ledger is away")
    outage.is_over()
    outage.failed(Unavailable("again"), what="ledger")
    assert len(told()) == 2


def test_a_full_disk_is_an_error_that_somebody_must_mend(told):
    Outage().failed(DiskFull("free some room"), what="work")
    (line,) = told()
    assert (line["severity"], line["kind"]) == ("ERROR", "disk_full")


def test_the_pauses_double_up_to_a_bound_and_begin_anew():
    clock = Clock()
    outage = Outage(clock=clock)
    pauses = []
    for _ in range(12):
        outage.failed(Unavailable("away"), what="queue")
        pauses.append(outage.left_s)
    assert pauses[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert pauses[-1] == LONGEST_PAUSE_S
    clock.seconds += LONGEST_PAUSE_S
    assert outage.left_s == 0.0
    assert outage.is_on
    outage.is_over()
    assert not outage.is_on
    outage.failed(Unavailable("away"), what="queue")
    assert outage.left_s == pytest.approx(0.1)
