"""What a backfill would compute, and what it would cost."""

from __future__ import annotations

import pytest

LEDGER = ("--ledger", "sqlite:///ledger.db")


def test_files_that_match_no_pattern_are_counted_with_what_to_add(segue, project):
    for name in ("a.wav", "b.opus", "c.OPUS", "notes.txt"):
        project.media(name)
    project.change_graph("include: ['*.wav']\n" + (project.folder / "jobs.yaml").read_text())
    said = segue("plan", "--prefix", "music", "--job", "fine", *LEDGER)
    assert said.code == 0
    assert "1 file examined" in said.out
    assert "not included: 3 files" in said.out
    assert "add to 'include' of the graph: \"*.opus\"" in said.out
    found = segue("plan", "--prefix", "music", "--job", "fine", *LEDGER, "--json").json
    assert (found["files"], found["left_out"]) == (1, {})
    assert found["not_included"] == {".opus": 2, ".txt": 1}
    assert found["include_suggested"] == ["*.opus"]


def test_files_below_the_prefix_are_measured_before_others(segue, project):
    for name, cpu_seconds in {"long/a.wav": 100.0, "short/a.wav": 2.0}.items():
        media = project.media(name)
        project.record(media, {"fine": project.entry("fine", media, cpu_seconds=cpu_seconds)})
    project.media("short/b.wav")
    found = segue("plan", "--prefix", "music/short", "--job", "fine", *LEDGER, "--json").json
    assert found["estimate"]["jobs"]["fine"] == {
        "todo": 1,
        "measured_on": 1,
        "cpu_seconds": pytest.approx(2.0, rel=1e-4),  # the file is longer, by three bytes
        "vcpu_hours": pytest.approx(2.0 / 3600, rel=1e-4),
    }
