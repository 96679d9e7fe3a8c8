"""The tour: what ``make demo`` runs, from an empty folder to a picture."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")


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
    assert "arrived=2 deleted=0 done=10 failed=0" in watched
    explained = section(watched, "$ segue explain 'catalogue/night bus/Rappel.flac'")
    for job in ("downsample", "loudness", "beats", "spectrogram", "energy"):
        assert f"\n{job} " in explained


def test_what_happened_while_nobody_watched_is_caught_up(tour):
    folder, text = tour
    again = section(text, "$ segue up catalogue --until-idle 1")
    assert "arrived=1 deleted=1 done=5 failed=0" in again
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
