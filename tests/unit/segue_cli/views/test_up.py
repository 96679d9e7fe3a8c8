"""The page of ``segue up``, in terminals of any width."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console

from segue.clock import utc_now
from segue.worker.running_job import RunningJob
from segue_cli.local.status import JobActivity, JobFailure, StoredCounts, SystemStatus
from segue_cli.local.supervisor import ProgramState, ProgramStatus
from segue_cli.views.up import MOST_RUNNING, RunPhase, render_page, strip_folder

FOLDER = "/media/disk/東京/a very long way to a catalogue of music"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def job(name: str, rate: float = 0.0, **states: int) -> JobActivity:
    return JobActivity(name=name, states=states, rate=rate)


LOOK = SystemStatus(
    namespace="default",
    folder=FOLDER,
    is_lost=False,
    counts=StoredCounts(
        files=1204,
        deleted=3,
        dead_letters=2,
        queued={"beats": 1234, "b": 0},
        jobs=(
            job("downsample", 8.125, running=2, done=1190, failed=2),
            job("a_job_with_a_name_that_is_long", 123.4, done=1_200_000, blocked=7),
            job("energy"),
        ),
    ),
    events=5,
    programs=(
        ProgramStatus(name="stream beats", state=ProgramState.UP),
        ProgramStatus(name="stream b", state=ProgramState.RESTARTING, restarts=1),
    ),
    failures=(
        JobFailure(
            at=NOW,
            job="beats",
            kind="corrupt_media",
            uri=f"file://{FOLDER}/雨\x1b[31m\n[b]x[/b].wav",
        ),
    ),
    notes=("stream was killed by SIGKILL; it will be restarted",),
)


def page(*looks: SystemStatus, width: int, **more: RunPhase) -> str:
    """The page as text, its lines without spaces at their ends."""
    console = Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system=None, markup=False
    )
    with console.capture() as captured:
        console.print(render_page(looks, width=width, **more))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def row(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(name))


def test_a_wide_page_has_everything():
    text = page(LOOK, width=120)
    assert f"1,204 files, 3 deleted, 5 events pending in {FOLDER}" in text
    assert "● stream beats 1,234 queued   ○ stream b restarting (started 2 times)" in text
    assert row(text, "job ") == ["job", "running", "done", "failed", "blocked", "rate"]
    assert row(text, "downsample") == ["downsample", "2", "1,190", "2", "·", "8.1/s"]
    long = "a_job_with_a_name_that_is_long"
    assert row(text, "a_job") == [long, "·", "1,200,000", "·", "7", "123/s"]
    assert "2 dead letters" in text
    assert "stream was killed by SIGKILL" in text


@pytest.mark.parametrize("width", [26, 30, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_each_job_has_one(width):
    lines = page(LOOK, width=width).splitlines()
    assert max(map(cell_len, lines)) <= width
    jobs = [line for line in lines if line.startswith(("down", "a_jo", "ener"))]
    assert len(jobs) == 3


def test_a_narrow_page_keeps_what_was_done_and_what_failed():
    text = page(LOOK, width=40)
    assert row(text, "job ") == ["job", "done", "failed"]
    assert row(text, "downsample") == ["downsample", "1,190", "2"]
    assert "a_job_with_a" in text
    assert "…" in text


def test_no_program_is_torn_apart_between_two_lines():
    lines = page(LOOK, width=40).splitlines()
    assert lines[1:3] == ["● stream beats 1,234 queued", "○ stream b restarting (started 2 times)"]


def test_the_name_of_a_file_commands_nothing():
    text = page(LOOK, width=120)
    assert "\x1b" not in text.replace("\x1b[0m", "")
    assert r"雨\x1b[31m\n[b]x[/b].wav" in text


def test_columns_and_parts_without_anything_to_tell_are_left_out():
    quiet = replace(
        LOOK,
        counts=StoredCounts(files=1, dead_letters=0, jobs=(job("energy"),)),
        failures=(),
        notes=(),
        events=0,
    )
    text = page(quiet, width=100)
    assert "blocked" not in text
    assert "dead letter" not in text
    assert "failures" not in text
    assert text.startswith("1 file in /media")


def test_it_says_that_the_folder_is_gone_and_that_it_is_stopping():
    assert "is missing" in page(replace(LOOK, is_lost=True), width=100)
    assert "Ctrl-C again" in page(LOOK, width=100, phase=RunPhase.STOPPING)
    assert "Ctrl-C" not in page(LOOK, width=100, phase=RunPhase.STOPPED)


def test_several_graphs_share_a_page_and_each_name_says_whose_it_is():
    moods = replace(
        LOOK,
        namespace="moods",
        folder=None,
        events=0,
        counts=StoredCounts(files=7, jobs=(job("mood", done=7),)),
        programs=(ProgramStatus(name="stream mood", state=ProgramState.UP),),
        failures=(
            JobFailure(at=NOW + timedelta(days=1), job="mood", kind="hang", uri="file:///a"),
        ),
        notes=("no room is left",),
    )
    text = page(replace(LOOK, namespace="platform"), moods, width=150)
    assert text.startswith("platform 1,204 files, 3 deleted, 5 events pending in /media")
    assert "moods 7 files; no folder is watched" in text
    assert "● platform stream beats 1,234 queued" in text
    assert "● moods stream mood" in text
    assert row(text, "platform/downsample") == [
        "platform/downsample",
        "2",
        "1,190",
        "2",
        "·",
        "8.1/s",
    ]
    assert row(text, "moods/mood")[:3] == ["moods/mood", "·", "7"]
    lines = text.splitlines()
    failures = lines[lines.index("Last failures") + 1 :]
    assert [line.split()[1] for line in failures[:2]] == ["moods/mood", "platform/beats"]
    assert "platform 2 dead letters; for details: segue retry" in text
    assert "moods no room is left" in text


@pytest.mark.parametrize(
    ("folder", "name"), [("/music", "a.wav"), ("/music/", "a.wav"), ("/", "music/a.wav")]
)
def test_a_file_is_shown_relative_to_its_folder(folder, name):
    assert strip_folder("file:///music/a.wav", folder) == name


def test_without_a_folder_the_whole_path_is_shown():
    assert strip_folder("file:///music/a.wav", "") == "/music/a.wav"


def run(name: str, seconds: float, fraction: float | None = None) -> RunningJob:
    since = utc_now() - timedelta(seconds=seconds)
    return RunningJob(
        job="beats", uris=(f"file://{FOLDER}/{name}",), since=since, fraction=fraction, text=""
    )


def test_jobs_that_say_how_far_they_are_or_run_for_long_have_lines_of_their_own():
    running = (run("long.wav", 900), run("told.wav", 2, 0.5), run("short.wav", 2))
    text = page(replace(LOOK, running=running), width=120)
    lines = text.partition("Running\n")[2].splitlines()
    assert lines[0].startswith("beats long.wav  15 min")
    assert "50 %  beats told.wav" in lines[1]
    assert lines[2] == ""
    assert "Running" not in page(replace(LOOK, running=running[2:]), width=120)


def test_of_many_jobs_the_longest_are_shown_and_no_line_is_wrapped():
    running = tuple(run(f"{'x' * 200}-{n}.wav", 60, n / 100) for n in range(50))
    lines = page(replace(LOOK, running=running), width=60).partition("Running\n")[2].splitlines()
    shown = lines[: lines.index("")]
    assert len(shown) == MOST_RUNNING
    assert all(cell_len(line) <= 60 for line in shown)
