"""The tours of ``make demo``: from an empty folder to a picture, and that of several teams."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segue_cli.teams_tour import JOBS, find_faults, read_evidence
from segue_support.paths import ROOT

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 300.0

pytestmark = pytest.mark.xdist_group("demo")  # the tour is walked once


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tour")
    done = subprocess.run(
        [SEGUE, "demo", "--folder", "tour"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "tour", done.stdout


def section(text: str, start: str) -> str:
    """Return the output of the tour from a line up to the next command."""
    return text[text.index(start) :].split("\n\n$ ", maxsplit=1)[0]


def test_it_shows_each_thing_that_it_promises(tour):
    _, text = tour
    for line in (
        "$ segue graph",
        "$ segue plan --prefix catalogue --job energy",
        "$ segue backfill --prefix catalogue --job energy --tolerate 30%",
        "$ segue status",
        "$ segue failures",
        "$ segue explain 'catalogue/night bus/01 Terminal.ogg'",
    ):
        assert line in text
    assert "corrupt_media  3 files" in text
    assert "empty file" in text
    assert "truncated: " in text


def test_siblings_do_not_run_until_they_are_asked_for(tour):
    folder, text = tour
    table = section(text, "$ segue status")
    (loudness,) = [line for line in table.splitlines() if line.startswith("loudness")]
    assert loudness.split()[1] == "0"
    made = {p.parent.name for p in (folder / ".segue/artifacts/loudness").rglob("*.json")}
    assert made == {"Rappel.flac", "Bis.flac"}  # which came later, and are computed top-down


def test_the_second_run_has_nothing_to_do(tour):
    _, text = tour
    again = section(text[text.index("Run it again") :], "$ segue backfill")
    (energy,) = [line for line in again.splitlines() if line.startswith("energy")]
    header = next(line for line in again.splitlines() if line.startswith("job"))
    assert "done" not in header.split()
    assert "8" in energy.split()


def test_one_picture_is_on_disk(tour):
    folder, _ = tour
    (picture,) = (folder / ".segue/artifacts/spectrogram").rglob("01 Terminal.ogg/*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_files_that_come_while_it_watches_get_all_their_features(tour):
    _, text = tour
    watched = section(text, "$ (sleep 1; cp encore/* 'catalogue/night bus/') & segue up catalogue")
    assert "arrived=2 deleted=0 done=18 failed=0" in watched
    explained = section(watched, "$ segue explain 'catalogue/night bus/Rappel.flac'")
    computed = ("downsample", "loudness", "beats", "spectrogram", "energy", "probe")
    for job in (*computed, "key", "danceability", "fingerprint"):
        assert f"\n{job} " in explained


def test_what_happened_while_nobody_watched_is_caught_up(tour):
    folder, text = tour
    again = section(text, "$ segue up catalogue --no-catch-up --until-idle 1")
    assert "arrived=1 deleted=1 done=9 failed=0" in again
    assert "3 files below" in again
    assert "the ledger keeps a tombstone" in again
    energies = list((folder / ".segue/artifacts/energy").rglob("Rappel.flac/*.json"))
    assert len(energies) == 2


def test_it_never_removes_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/song.wav").write_bytes(b"x")
    done = subprocess.run(
        [SEGUE, "demo", "--folder", "mine"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert (tmp_path / "mine/song.wav").exists()


def test_a_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").touch()
    done = subprocess.run(
        [SEGUE, "demo", "--folder", tmp_path / "file" / "tour"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "choose another folder with --folder" in done.stderr


@pytest.fixture(scope="module")
def teams_tour(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a tour of teams")  # with spaces
    link = tmp_path_factory.mktemp("links") / "tour"
    link.symlink_to(folder)
    done = subprocess.run(
        [SEGUE, "demo", "--teams", "--json", "--folder", link / ".segue/demo-teams"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads(done.stdout), done.stderr


def find_processes_in(folder: Path) -> list[str]:
    """Return the command lines of the processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append((process / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return [line for line in found if line]  # a process that has ended has none


def test_only_the_line_of_a_request_runs_in_all_teams(teams_tour):
    _, found, text = teams_tour
    runs = {
        name: {one["namespace"]: (one["runs"], one["artifacts"]) for one in jobs}
        for name, jobs in found["files"].items()
    }
    once, never = (1, 1), (0, 0)
    assert runs["archive/Rappel.flac"] == {
        "platform": once,
        "visuals": never,
        "rhythm": once,
        "moods": never,
    }
    assert set(runs["music/Bis.flac"].values()) == {once}
    assert text.count("Ran, in this order: downsample once, beats once.") == 2
    assert "Beats found 12" in text  # of 126 bpm


def test_the_readme_shows_what_the_tour_of_teams_prints(teams_tour):
    _, _, text = teams_tour
    (table,) = re.findall(r"^```\n(team .*?)^```", read_chapter(), re.MULTILINE | re.DOTALL)
    assert table in text


def test_nothing_runs_after_the_tour_of_teams(teams_tour):
    folder, _, _ = teams_tour
    assert find_processes_in(folder) == []


def read_chapter() -> str:
    """Return the page about several teams."""
    return (ROOT / "docs/teams.md").read_text()


def test_the_commands_of_the_page_about_teams_work_as_they_are_written(teams_tour):
    folder, _, _ = teams_tour
    first, second = [
        [line.removeprefix("$ ") for line in block.splitlines()]
        for block in re.findall(r"^```console\n(.*?)^```", read_chapter(), re.MULTILINE | re.DOTALL)
    ]
    assert first.pop(0) == "segue demo --teams"
    up = first.pop()
    assert up.startswith("segue up ")
    lines = [*first, f"{up} > readme.log 2>&1 & up=$!", "cd ../..", *second, "kill $up", "wait $up"]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    said = subprocess.run(
        ["/bin/sh", "-e", "-c", "\n".join(lines)],
        cwd=folder,
        env={**environ, "PATH": f"{os.path.dirname(SEGUE)}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count("Done: 1 file.") == 2
    assert "spectrogram  missing" in said.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_tour_of_teams_and_all_that_it_runs(number, tmp_path):
    with subprocess.Popen(
        [SEGUE, "demo", "--teams", "--folder", "tour"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as tour:
        for line in tour.stdout:
            if line.startswith("$ segue up"):
                break
        log = tmp_path / "tour/up.log"
        until = time.monotonic() + PATIENCE_S
        while not log.exists() or "started" not in log.read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        tour.send_signal(number)
        tour.stdout.read()
        assert tour.wait(PATIENCE_S) == 130
        said = tour.stderr.read()
        assert said.endswith("\nsegue: interrupted\n")
        assert "Traceback" not in said
    assert find_processes_in(tmp_path) == []


def test_the_tour_of_teams_fails_if_a_job_runs_that_should_not(teams_tour):
    folder, _, _ = teams_tour
    tour = str(folder / ".segue/demo-teams")
    found = [read_evidence(tour, team, job, "music/Bis.flac") for team, job in JOBS.items()]
    assert find_faults(found, JOBS) == []
    faults = find_faults(found, ("platform", "rhythm"))
    assert [fault.split()[0] for fault in faults] == ["visuals/spectrogram", "moods/brightness"]
    missing = [read_evidence(tour, team, job, "music/no.flac") for team, job in JOBS.items()]
    assert [fault.split()[0] for fault in find_faults(missing, ("rhythm",))] == ["rhythm/beats"]


def test_an_empty_folder_name_is_refused(tmp_path):
    done = subprocess.run(
        [SEGUE, "demo", "--teams", "--folder", ""],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "name a folder" in done.stderr
    assert list(tmp_path.iterdir()) == []
