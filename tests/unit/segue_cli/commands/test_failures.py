"""The list of failures, and their retry."""

from __future__ import annotations

import io
import shlex

import pytest

from segue.errors import Kind
from segue.model.record import Failure, State
from segue.reports.failure_hints import HINTS
from segue_cli.main import load_command

LEDGER = ("--ledger", "sqlite:///ledger.db")


@pytest.fixture
def files(project):
    """Five files: fine times out on three and fails on one, which blocks after; beside is done."""
    made = [project.media(f"{n}.wav") for n in range(5)]
    for number, media in enumerate(made):
        kind = "corrupt_media" if number == 3 else "timeout"
        entries = {"beside": project.entry("beside", media)}
        if number < 4:
            entries["fine"] = project.failed("fine", media, kind)
            entries["after"] = project.blocked("after", media, "fine")
        project.record(media, entries)
    return made


def test_failures_are_grouped_with_counts_examples_and_remedies(segue, files):
    said = segue("failures", *LEDGER, "--limit", "2")
    assert said.code == 0
    assert "fine  timeout  3 files" in said.out
    assert "timeout_s" in said.out
    assert "… and 1 more" in said.out
    assert "it took too long" in said.out
    assert "fine  corrupt_media  1 file" in said.out
    assert "4 failures" in said.out


def test_as_json_all_failures_are_listed_in_full(segue, files):
    found = segue("failures", *LEDGER, "--json").json
    assert [f["uri"] for f in found["failures"]] == [m.uri for m in files[:4]]
    assert all(f["message"].endswith("it took too long") for f in found["failures"])
    assert found["total"] == 4
    assert {(g["kind"], g["files"]) for g in found["groups"]} == {
        ("timeout", 3),
        ("corrupt_media", 1),
    }


@pytest.mark.parametrize(
    ("arguments", "total"),
    [
        (("--kind", "corrupt_media"), 1),
        (("--kind", "corrupt_media", "--kind", "timeout"), 4),
        (("--job", "after"), 0),
        (("--job", "fine", "--job", "after"), 4),
        (("--prefix", "music/0.wav"), 1),
    ],
)
def test_failures_are_chosen_by_kind_job_and_prefix(segue, files, arguments, total):
    assert segue("failures", *LEDGER, *arguments, "--json").json["total"] == total


def test_every_kind_of_failure_has_a_hint():
    assert set(HINTS) == set(Kind)


def test_a_failure_of_an_earlier_version_of_the_job_is_not_listed(segue, project):
    media = project.media("song.wav")
    project.record(media, {"0" * 12: project.failed("fine", media)})
    assert segue("failures", *LEDGER, "--json").json["failures"] == []
    assert "There are no failures." in segue("failures", *LEDGER).out


def test_the_traceback_of_a_failure_is_in_the_json(segue, project):
    media = project.media("song.wav")
    error = Failure(kind="job_raised", type="KeyError", message="'a'", traceback="line 3, in f")
    project.record(media, {"fine": project.failed("fine", media, error=error)})
    assert segue("failures", *LEDGER, "--json").json["failures"][0]["traceback"] == "line 3, in f"
    assert "line 3" not in segue("failures", *LEDGER).out
    assert "segue failures -v" in segue("failures", *LEDGER).out
    shown = segue("failures", *LEDGER, "-v").out
    assert "      line 3, in f\n" in shown
    assert "segue failures -v" not in shown


def test_without_failures_that_is_said(segue, project):
    assert "There are no failures." in segue("failures", *LEDGER).out
    assert segue("failures", *LEDGER, "--json").json == {"failures": [], "groups": [], "total": 0}


@pytest.mark.parametrize("name", ["failures", "retry"])
def test_unknown_jobs_and_kinds_are_guessed(segue, project, name):
    assert "did you mean 'fine'?" in segue(name, *LEDGER, "--job", "fne").err
    assert "did you mean 'timeout'?" in segue(name, *LEDGER, "--kind", "timeot").err


def test_a_dry_run_counts_and_changes_nothing(segue, project, files):
    said = segue("retry", *LEDGER, "--dry-run", "--json")
    assert said.json["jobs"] == {
        "after": {"failed": 0, "blocked": 4},
        "fine": {"failed": 4, "blocked": 0},
    }
    assert project.results(files[0])["fine"].state is State.FAILED


def test_what_failed_is_queued_again_with_what_it_blocks(segue, project, files):
    said = segue("retry", *LEDGER, "--kind", "timeout", "--yes", "--json")
    assert (said.code, said.json["files"]) == (0, 3)
    states = [{j: e.state for j, e in project.results(m).items()} for m in files]
    queued = {"fine": State.QUEUED, "after": State.QUEUED, "beside": State.DONE}
    assert states[:3] == [queued] * 3
    assert states[3] == {"fine": State.FAILED, "after": State.BLOCKED, "beside": State.DONE}
    assert segue("retry", *LEDGER, "--kind", "timeout").out == "No failures match.\n"


def test_a_blocked_job_brings_the_failed_one_along(segue, project, files):
    found = segue(
        "retry", *LEDGER, "--job", "after", "--prefix", "music/0.wav", "--yes", "--json"
    ).json
    assert found["jobs"] == {
        "after": {"failed": 0, "blocked": 1},
        "fine": {"failed": 1, "blocked": 0},
    }


def test_what_to_run_next_is_a_command_that_is_understood(segue, files):
    said = segue("retry", *LEDGER, "--prefix", "music", "--yes")
    command = said.out.splitlines()[-1].removeprefix("Next: ")
    program, name, *arguments = shlex.split(command)
    assert (program, name) == ("segue", "backfill")
    with load_command(name).make_context(name, arguments) as context:
        assert context.params["jobs"] == ("fine", "after")
        assert context.params["prefix"] == "music"
        assert context.params["ledger"] == LEDGER[-1]


def test_without_a_terminal_to_confirm_in_nothing_is_changed(segue, project, files, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    said = segue("retry", *LEDGER)
    assert said.code == 2
    assert "--yes" in said.err
    assert project.results(files[0])["fine"].state is State.FAILED
