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


@pytest.mark.parametrize("command", ["plan", "backfill", "reconcile"])
def test_a_folder_of_which_nothing_is_included_is_no_success(segue, project, command):
    jobs = () if command == "reconcile" else ("--job", "fine")
    where = (command, "--prefix", "music", *jobs, *LEDGER)
    said = segue(*where)
    assert said.code == 0, said.err  # it is empty
    for name in ("a.opus", "b.opus", "notes.txt"):
        project.media(name)
    project.change_graph("include: ['*.wav']\n" + (project.folder / "jobs.yaml").read_text())
    said = segue(*where)
    assert said.code == 3
    assert "not included: 3 files" in said.out
    assert "add to 'include' of the graph: \"*.opus\"" in said.out
    if command != "reconcile":
        assert "No files to process: the graph includes none" in said.out
    assert segue(*where, "--json").json["not_included"] == {".opus": 2, ".txt": 1}
    project.media("c.wav")
    assert segue(*where).code == 0


def test_what_is_excluded_or_not_selected_is_counted_and_is_no_fault(segue, project):
    for name in ("a.wav", "drafts/b.wav"):
        project.media(name)
    project.change_graph("exclude: ['*/DRAFTS/*']\n" + (project.folder / "jobs.yaml").read_text())
    where = ("plan", "--prefix", "music", "--job", "fine", *LEDGER)
    said = segue(*where, "--match", "x*")
    assert said.code == 0
    assert "No files selected." in said.out
    assert "excluded: 1 file whose names match a pattern of 'exclude'" in said.out
    assert "not selected: 1 file (1 with another name)" in said.out
    found = segue(*where, "--match", "x*", "--json").json
    assert (found["excluded"], found["not_selected"]) == ({".wav": 1}, {"match": 1})
    found = segue(*where, "--from-ledger", "all", "--match", "a*", "--json").json
    assert (found["excluded"], found["not_selected"]) == ({}, {})


def test_records_of_files_that_are_no_longer_media_are_counted(segue, project):
    for name in ("a.wav", "b.wav", "c.opus", "d.wav"):
        project.record(project.media(name), {})
    head = "include: ['*.wav']\nexclude: ['*/d.*']\n"
    project.change_graph(head + (project.folder / "jobs.yaml").read_text())
    where = ("plan", "--from-ledger", "all", "--job", "fine", *LEDGER)
    found = segue(*where, "--match", "b*", "--json").json
    assert found["files"] == 1
    assert (found["not_included"], found["excluded"]) == ({".opus": 1}, {".wav": 1})
    assert found["not_selected"] == {"match": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--newer-than", "nonsense"), "neither a date nor an age"),
        (("--min-duration", "long"), "which is not a length"),
        (("--max-duration", "-1"), "which is not a length"),
        (("--tag", "artist"), "which is not a tag"),
        (("--match", ""), "is not a pattern"),
        (("--min-duration", "3"), "which this graph has not; add to its jobs: probe"),
        (("--tag", "a=b"), "which this graph has not; add to its jobs: probe"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "backfill", "request"])
def test_an_option_that_selects_nothing_is_refused(segue, project, command, options, message):
    project.media("a.wav")
    said = segue(command, "--prefix", "music", "--job", "fine", *LEDGER, *options)
    assert said.code == 2
    assert message in said.err
