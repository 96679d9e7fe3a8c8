"""Plans are made by a program of their own, which is stopped when nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from segue_console import plans as module
from segue_console.plans import MadePlan, Plans


@pytest.fixture
def plans() -> Iterator[Plans]:
    made = Plans()
    yield made
    made.close()


def wait_for(made: MadePlan) -> MadePlan:
    while made.ended is None:
        time.sleep(0.02)
    return made


def test_a_plan_is_made_once(plans, namespace, writer):
    (writer.folder / "music" / "a.wav").write_bytes(b"sound")
    made = wait_for(plans.find(namespace, ("plain",), str(writer.folder / "music")))
    assert made.error is None
    assert made.found["jobs"]["plain"] == {"todo": 1}
    assert plans.find(namespace, ("plain",), str(writer.folder / "music")) is made
    path = writer.folder / "jobs.yaml"
    path.write_text(path.read_text().replace("plain: {run", "plain: {version: 2, run"))
    namespace.refresh()
    assert plans.find(namespace, ("plain",), str(writer.folder / "music")) is not made


@pytest.mark.parametrize("prefix", ["x" * 200_000, "no such folder", "\0", "ftp://host"])
def test_one_that_cannot_be_made_says_why(plans, namespace, prefix):
    made = wait_for(plans.find(namespace, ("plain",), prefix))
    assert made.found is None
    assert made.error


def test_one_that_nobody_waits_for_is_not_made(plans, namespace, writer, monkeypatch):
    monkeypatch.setattr(module, "ABANDONED_S", -1.0)
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    made = wait_for(plans.find(namespace, ("plain",), str(writer.folder / "music")))
    assert made.error == "no page waited for it any more"
    assert plans.find(namespace, ("plain",), str(writer.folder / "music")) is not made


def test_one_that_is_being_made_is_stopped_at_the_end(plans, namespace, writer):
    made = plans.find(namespace, ("plain",), str(writer.folder / "music"))
    plans.close()
    assert made.found is None
