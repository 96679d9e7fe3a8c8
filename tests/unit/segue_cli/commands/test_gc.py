"""Artifacts that are no longer needed: counted first, deleted on request."""

from __future__ import annotations

import os
import shlex

import pytest

LEDGER = ("--ledger", "sqlite:///ledger.db")
OLD = "0" * 12


@pytest.fixture
def names(project):
    """Write artifacts: a needed one, one of an older version, and one of another ledger's file."""
    media, foreign = project.media("song.wav"), project.media("foreign.wav")
    names = {
        "needed": project.write("fine", media),
        "old": project.write("fine", media, OLD),
        "other": project.write("fine", foreign),
    }
    entry = project.entry("fine", media)
    project.record(media, {"fine": entry, OLD: entry})
    for name in names.values():
        os.utime(f"artifacts/{name}", (1e9, 1e9))
    return names


def exists(name: str) -> bool:
    return os.path.exists(f"artifacts/{name}")


def test_without_delete_they_are_only_counted(segue, names):
    said = segue("gc", *LEDGER)
    assert said.code == 0
    assert "older version of the job" in said.out
    assert "1 artifact of 3 can be deleted (2 B)." in said.out
    assert "Kept: 1 artifact of files that are not in this ledger" in said.out
    assert all(map(exists, names.values()))


def test_the_command_that_is_shown_deletes_what_was_counted(segue, names):
    for name in names.values():
        os.utime(f"artifacts/{name}")
    said = segue("gc", *LEDGER, "--older-than", "0s")
    _, shown = said.out.rstrip().split("To delete them: segue ")
    assert "Deleted 1 artifact of 3" in segue(*shlex.split(shown)).out


def test_a_catalogue_may_be_a_folder_as_it_is_typed(segue, names):
    said = segue("gc", *LEDGER, "--catalogue", "My Music")
    assert (said.code, said.err) == (0, "")
    assert "1 artifact of 3 can be deleted" in said.out


def test_delete_removes_what_is_not_needed_and_certain(segue, project, names):
    said = segue("gc", *LEDGER, "--delete")
    assert "Deleted 1 artifact of 3 (2 B)." in said.out
    assert {which: exists(name) for which, name in names.items()} == {
        "needed": True,
        "old": False,
        "other": True,
    }
    assert list(project.known(project.media("song.wav")).results) == [
        project.graph.fingerprints["fine"]
    ]


def test_without_delete_the_ledger_stays_as_it_is(segue, project, names):
    segue("gc", *LEDGER)
    assert OLD in project.known(project.media("song.wav")).results


def test_the_results_of_a_job_that_was_renamed_are_removed(segue, project, names):
    text = (project.folder / "jobs.yaml").read_text()
    project.change_graph(text.replace("fine:", "renamed:").replace("value: fine", "value: renamed"))
    assert "job is not in the graph" in segue("gc", *LEDGER).out
    removed = segue("gc", *LEDGER, "--delete", "--json").json["artifacts"]
    assert [(a["job"], a["reason"]) for a in removed] == [("fine", "removed_job")] * 2
    assert [exists(name) for name in names.values()] == [False, False, True]
    assert project.known(project.media("song.wav")).results == {}


def test_with_delete_the_ledger_forgets_failures_of_older_versions(segue, project, names):
    media = project.media("song.wav")
    failures = {"fine": project.failed("fine", media), OLD: project.failed("fine", media)}
    project.record(media, failures)
    segue("gc", *LEDGER)
    assert len(project.known(media).results) == 2
    segue("gc", *LEDGER, "--delete")
    assert list(project.known(media).results) == [project.graph.fingerprints["fine"]]


def test_files_of_other_ledgers_go_on_request_only(segue, names):
    segue("gc", *LEDGER, "--delete", "--unknown-files")
    assert [exists(name) for name in names.values()] == [True, False, False]


def test_json_names_each_and_counts_all(segue, names):
    found = segue("gc", *LEDGER, "--json").json
    assert found["total"] == {"artifacts": 1, "size_bytes": 2}
    assert [(a["job"], a["reason"]) for a in found["artifacts"]] == [("fine", "old_fingerprint")]
    assert found["artifacts"][0]["name"] == names["old"]
    assert (found["deleted"], found["looked_at"], found["kept_of_unknown_files"]) == (False, 3, 1)


def test_names_are_listed_on_request(segue, names):
    assert names["old"] in segue("gc", *LEDGER, "--names").out


def test_what_is_young_is_left_alone(segue, names):
    os.utime(f"artifacts/{names['old']}")
    assert "Nothing to delete" in segue("gc", *LEDGER).out
    assert segue("gc", *LEDGER, "--older-than", "0s", "--json").json["total"]["artifacts"] == 1


@pytest.mark.parametrize("duration", ["", "d", "1", "1y", "-1d", "1.5h", "99999w"])
def test_an_invalid_duration_is_refused(segue, names, duration):
    said = segue("gc", *LEDGER, "--older-than", duration)
    assert said.code == 2
    assert "such as 12h" in said.err


def test_artifacts_that_are_not_there_are_reported(segue, names):
    said = segue("gc", *LEDGER, "--artifacts", "artefacts")
    assert said.code == 2
    assert "there is no folder" in said.err
    assert "artefacts" in said.err
    assert not os.path.exists("artefacts")


def test_without_a_ledger_nothing_is_garbage(segue, names):
    said = segue("gc", "--ledger", "sqlite:///wrong.db", "--delete", "--unknown-files")
    assert said.code == 2
    assert all(map(exists, names.values()))
    assert not os.path.exists("wrong.db")


@pytest.fixture
def runs(folder):
    """Write a record of a run, an older one, and what only looks like one."""
    (folder / "artifacts/_runs/a").mkdir(parents=True)
    names = {
        "young": "_runs/20260102T030405.000000Z-0a1b2c3d.json",
        "old": "_runs/20250102T030405.000000Z-0a1b2c3d.json",
        "no record": "_runs/notes.txt",
        "no id": "_runs/a/20250102T030405.000000Z-0a1b2c3d.json",
    }
    for which, name in names.items():
        (folder / "artifacts" / name).write_text("{}")
        if which != "young":
            os.utime(f"artifacts/{name}", (1e9, 1e9))
    return names


@pytest.mark.usefixtures("names")
def test_records_of_runs_are_kept_for_a_year(segue, runs):
    said = segue("gc", *LEDGER)
    assert "To be deleted: 1 record of runs that are older than a year." in said.out
    assert all(map(exists, runs.values()))
    said = segue("gc", *LEDGER, "--delete", "--json")
    assert (said.json["old_runs"], said.json["total"]["artifacts"]) == (1, 1)
    assert {which: exists(name) for which, name in runs.items()} == {
        "young": True,
        "old": False,
        "no record": True,
        "no id": True,
    }
    assert "record of runs" not in segue("gc", *LEDGER, "--delete").out
