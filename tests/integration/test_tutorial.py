"""The commands of the tutorial work one after the other, as it says."""

from __future__ import annotations

import re

import pytest

from segue_support.tutorial import PAGE, SOME_FAILED, draw, read_commands, run_page

pytestmark = pytest.mark.xdist_group("tutorial")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return list(run_page(PAGE.read_text(), str(tmp_path_factory.mktemp("home"))))


def find(runs, picture):
    (run,) = [r for r in runs if r.command.picture == f"tutorial/{picture}.svg"]
    return re.sub(r"\x1b\[[0-9;]*m", "", run.output)


def test_every_command_succeeds_but_for_files_that_are_broken(runs):
    for run in runs:
        expected = SOME_FAILED if run.command.text.startswith("segue backfill") else 0
        assert run.returncode == expected, (run.command.text, run.output, run.errors)


def test_each_shows_what_the_text_says(runs):
    assert re.search(r"^downsample +11\nbeats +11$", find(runs, "plan"), re.MULTILINE)
    assert re.search(r"^key +8 .* 3 ", find(runs, "backfill"), re.MULTILINE)
    assert "truncated: 6.59 s of 20.00 s decoded" in find(runs, "failures")
    assert re.search(r"^brightness +8 ", find(runs, "own"), re.MULTILINE)
    changed = find(runs, "changed")
    assert re.search(r"^brightness +8 ", changed, re.MULTILINE)
    assert re.search(r"^downsample +· +8 ", changed, re.MULTILINE)  # current
    (read,) = [r.output for r in runs if r.command.text.startswith("python")]
    assert len(re.findall(r"^file://\S.* \d+\.\d+$", read, re.MULTILINE)) >= 5


def test_every_picture_is_there_and_can_be_drawn(runs, tmp_path):
    pictures = [c.picture for c in read_commands(PAGE.read_text()) if c.picture]
    assert pictures
    assert all((PAGE.parent / picture).exists() for picture in pictures)
    (run,) = [r for r in runs if r.command.picture == "tutorial/plan.svg"]
    draw(run, str(tmp_path / "plan.svg"))
    svg = (tmp_path / "plan.svg").read_text()
    assert "segue" in svg
    assert "https://cdn" not in svg
