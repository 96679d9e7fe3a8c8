"""Plans are made by a real process, which ends with whoever waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from segue.model.settings import Settings
from segue_console import plans
from segue_console.plans import MadePlan, Plans
from segue_support.processes import is_alive, list_descendants

pytestmark = pytest.mark.slow

PATIENCE_S = 100.0
# A console that makes a plan, and says in which process.
SCRIPT = """
import os, sys, time
from segue.model.settings import Settings
from segue_console.plans import Plans
from segue_support.processes import is_alive, list_descendants

plans = Plans()
plans.find(Settings(graph=sys.argv[1]), ("beats",), "")
while not (found := list_descendants(os.getpid())):
    time.sleep(0.02)
print(*found, flush=True)
time.sleep(600)
"""


@pytest.fixture
def others() -> set[int]:
    """The processes that this one has started before."""
    return list_descendants(os.getpid())


@pytest.fixture
def made(others) -> Iterator[Plans]:
    found = Plans()
    yield found
    found.close()


@pytest.fixture
def settings(writer) -> Settings:
    for name in ("a.wav", "b.wav"):
        (writer.folder / "music" / name).write_bytes(b"sound")
    return Settings(graph=str(writer.folder / "jobs.yaml"), ledger=writer.url)


@pytest.fixture
def stuck(writer) -> Settings:
    """Settings with a graph that is a pipe: whoever reads it waits for ever."""
    path = str(writer.folder / "stuck.yaml")
    os.mkfifo(path)
    return Settings(graph=path, ledger=writer.url)


def wait_until(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def wait_for(made: Plans, settings: Settings, *jobs: str, prefix: str = "music") -> MadePlan:
    wait_until(lambda: made.find(settings, jobs, prefix).ended is not None)
    return made.find(settings, jobs, prefix)


def wait_for_process(others: set[int]) -> int:
    """Wait until a plan's process runs."""
    wait_until(lambda: list_descendants(os.getpid()) - others)
    (process,) = list_descendants(os.getpid()) - others
    return process


def test_a_plan_says_what_would_be_computed(made, settings):
    found = wait_for(made, settings, "beats")
    assert found.error is None
    assert found.found["files"] == 2
    assert found.found["jobs"] == {"beats": {"todo": 2}}


def test_it_computes_and_records_nothing(made, settings, writer):
    wait_for(made, settings, "beats")
    assert not (writer.folder / "artifacts").exists() or not [
        path for path in (writer.folder / "artifacts").rglob("*") if path.is_file()
    ]
    assert [s.record for s in writer.ledger.read([writer.uri("a.wav")])] == [None]


def test_two_plans_that_are_wanted_at_once_are_both_made(made, settings, writer):
    writer.write("a.wav", plain={"n": 1})
    first, second = (made.find(settings, (job,), "music") for job in ("beats", "plain"))
    assert first is not second
    assert wait_for(made, settings, "plain") is second
    assert wait_for(made, settings, "beats") is first
    assert (list(first.found["jobs"]), list(second.found["jobs"])) == (["beats"], ["plain"])


def test_a_plan_is_kept_for_a_while(made, settings, monkeypatch):
    found = wait_for(made, settings, "beats")
    assert made.find(settings, ("beats",), "music", retry=True) is found
    monkeypatch.setattr(plans, "KEPT_S", 0.0)
    assert made.find(settings, ("beats",), "music") is not found


def test_a_plan_of_a_graph_that_has_changed_is_made_anew(made, settings, writer):
    found = wait_for(made, settings, "beats")
    path = writer.folder / "jobs.yaml"
    path.write_text(path.read_text().replace("  plain:", "  simple:"))
    assert made.find(settings, ("beats",), "music") is not found
    assert wait_for(made, settings, "simple").found["jobs"] == {"simple": {"todo": 2}}


def test_what_is_wrong_is_told_in_full_and_tried_again(made, settings, writer):
    found = wait_for(made, settings, "beats", prefix="nowhere")
    assert found.error == "there is no file or folder 'nowhere'; check the path"
    (writer.folder / "nowhere").mkdir()
    assert made.find(settings, ("beats",), "nowhere") is found, "a page that waits is told once"
    assert made.find(settings, ("beats",), "nowhere", retry=True) is not found
    assert wait_for(made, settings, "beats", prefix="nowhere").found["files"] == 0


def test_an_error_in_the_graph_is_told(made, settings, writer):
    (writer.folder / "jobs.yaml").write_text("jobs:\n  beats: {run: 'a:b', wants: {x: source}}\n")
    found = wait_for(made, settings, "beats")
    assert found.found is None
    assert "beats" in found.error
    assert "wants" in found.error


@pytest.mark.parametrize("prefix", ["x" * 200_000, "no such folder", "\0", "ftp://host"])
def test_a_prefix_that_makes_no_sense_is_told(made, settings, prefix):
    plan = wait_for(made, settings, "beats", prefix=prefix)
    assert plan.found is None
    assert plan.error


def test_the_end_of_the_console_ends_the_plan(made, stuck, others):
    waiting = made.find(stuck, ("beats",), "")
    behind = made.find(stuck, ("plain",), "")
    wait_for_process(others)
    made.close()
    assert list_descendants(os.getpid()) - others == set()
    assert (waiting.found, behind.found) == (None, None)


def test_a_plan_that_nobody_waits_for_is_stopped(made, stuck, others, monkeypatch):
    left = made.find(stuck, ("beats",), "")
    wait_for_process(others)
    monkeypatch.setattr(plans, "WATCHED_S", 0.0)
    wait_until(lambda: left.ended is not None)
    assert "nobody waited" in left.error
    assert list_descendants(os.getpid()) - others == set()
    assert made.find(stuck, ("beats",), "", retry=True) is not left


def test_a_plan_that_takes_too_long_is_stopped(made, stuck, others, monkeypatch):
    monkeypatch.setattr(plans, "LONGEST_S", 0.0)
    assert "run 'segue plan'" in wait_for(made, stuck, "beats").error
    assert list_descendants(os.getpid()) - others == set()


def test_a_process_that_was_killed_is_told(made, stuck, others):
    waiting = made.find(stuck, ("beats",), "")
    os.kill(wait_for_process(others), signal.SIGKILL)
    wait_until(lambda: waiting.ended is not None)
    assert waiting.error == "it ended with code -9"


def test_a_program_that_cannot_be_started_is_told(made, settings, monkeypatch):
    monkeypatch.setattr(plans.sys, "executable", "/no/such/python")
    assert "/no/such/python" in wait_for(made, settings, "beats").error


def test_a_console_that_is_killed_leaves_no_process(stuck):
    command = [sys.executable, "-c", SCRIPT, stuck.graph]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as console:
        process = int(console.stdout.readline())
        console.kill()
    wait_until(lambda: not is_alive(process))


class TestPage:
    def wait(self, console, **parameters) -> str:
        """Ask as the page does, until the plan is there."""
        found: list[str] = []

        def ask() -> bool:
            answer = console.client.get(
                "/default/plan", params=parameters, headers={"HX-Request": "true"}
            )
            found.append(answer.text)
            return "hx-trigger" not in answer.text

        wait_until(ask)
        return found[-1]

    def test_the_page_shows_a_plan(self, console, settings):
        asked = console.get("/default/plan", job="beats", prefix="music").text
        assert 'hx-trigger="every 1s"' in asked
        shown = self.wait(console, job="beats", prefix="music")
        assert "<html" not in shown
        assert "<td>beats</td>" in shown
        assert "segue backfill --job beats --prefix music" in shown

    def test_the_page_tells_an_error(self, console, settings):
        console.get("/default/plan", job="beats", prefix="nowhere")
        shown = self.wait(console, job="beats", prefix="nowhere")
        assert "there is no file or folder &#39;nowhere&#39;" in shown
