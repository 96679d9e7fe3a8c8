"""Plans are made by a program of their own, which is stopped when nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from segue.model.settings import Settings
from segue_console import plans as module
from segue_console.plans import MadePlan, Plans


@pytest.fixture
def settings(writer) -> Settings:
    (writer.folder / "music" / "a.wav").write_bytes(b"sound")
    return Settings(graph=str(writer.folder / "jobs.yaml"), ledger=writer.url)


@pytest.fixture
def plans() -> Iterator[Plans]:
    made = Plans()
    yield made
    made.close()


def wait_for(made: MadePlan) -> MadePlan:
    while made.ended is None:
        time.sleep(0.02)
    return made


def test_a_plan_is_made_once(plans, settings, writer):
    made = wait_for(plans.find(settings, ("plain",), str(writer.folder / "music")))
    assert made.error is None
    assert made.found["jobs"]["plain"] == {"todo": 1}
    assert plans.find(settings, ("plain",), str(writer.folder / "music")) is made


@pytest.mark.parametrize("prefix", ["x" * 200_000, "no such folder", "\0", "ftp://host"])
def test_one_that_cannot_be_made_says_why(plans, settings, prefix):
    made = wait_for(plans.find(settings, ("plain",), prefix))
    assert made.found is None
    assert made.error


def test_one_that_nobody_waits_for_is_not_made(plans, settings, writer, monkeypatch):
    monkeypatch.setattr(module, "ABANDONED_S", -1.0)
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    made = wait_for(plans.find(settings, ("plain",), str(writer.folder / "music")))
    assert made.error == "no page waited for it any more"
    assert plans.find(settings, ("plain",), str(writer.folder / "music")) is not made


def test_one_that_is_being_made_is_stopped_at_the_end(plans, settings, writer):
    made = plans.find(settings, ("plain",), str(writer.folder / "music"))
    plans.close()
    assert made.found is None
