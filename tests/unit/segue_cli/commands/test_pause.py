"""Pausing jobs, and what other commands say of paused ones."""

from __future__ import annotations

import pytest

from segue.model.run import find_user
from segue_cli.exit_code import ExitCode

LEDGER = ("--ledger", "sqlite:///ledger.db")


def test_a_job_is_paused_by_whoever_says_so(segue, project):
    said = segue("pause", "fine", *LEDGER)
    assert said.code == ExitCode.OK
    assert said.out.startswith(f"fine is paused by {find_user()} since 20")
    assert "segue resume fine" in said.out
    again = segue("pause", "fine", *LEDGER, "--json").json
    assert list(again["paused"]) == ["fine"]
    assert again["paused"]["fine"]["by"] == find_user()


def test_without_a_name_all_jobs_are_paused(segue, project):
    segue("pause", "after", *LEDGER)
    assert segue("pause", *LEDGER).out.startswith("all jobs are paused by ")
    assert len(segue("status", *LEDGER).out.split("paused by")) == 2
    refused = segue("resume", "after", *LEDGER)
    assert refused.code == ExitCode.USAGE
    assert "all jobs are paused" in refused.err
    assert segue("resume", *LEDGER).out == "Resumed: all jobs, after.\n"
    assert segue("status", *LEDGER, "--json").json["paused"] == {}


def test_the_status_says_what_is_paused(segue, project):
    segue("pause", "fine", *LEDGER)
    assert f"fine is paused by {find_user()} since" in segue("status", *LEDGER).out
    assert list(segue("status", *LEDGER, "--json").json["paused"]) == ["fine"]


def test_explain_says_what_is_paused(segue, project):
    media = project.media("song.wav")
    project.record(media, {})
    segue("pause", "fine", *LEDGER)
    said = segue("explain", "music/song.wav", *LEDGER).out
    assert f"fine  missing  paused by {find_user()} since" in said
    assert "It would skip fine: paused (run 'segue resume' to go on)." in said
    assert "It would skip after: waiting for a job that is paused" in said
    jobs = segue("explain", "music/song.wav", *LEDGER, "--json").json["jobs"]
    following = {job["job"]: job["next"] for job in jobs}
    assert following == {"fine": "paused", "after": "waiting", "beside": "run"}


def test_what_is_not_paused_cannot_be_resumed(segue, project):
    said = segue("resume", *LEDGER)
    assert (said.code, said.out) == (ExitCode.OK, "Nothing was paused.\n")
    assert segue("resume", "fine", *LEDGER, "--json").json == {
        "resumed": [],
        "requests": 0,
        "paused": {},
    }


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_job_that_there_is_not_is_refused(segue, project, command):
    said = segue(command, "fien", *LEDGER)
    assert said.code == ExitCode.USAGE
    assert "'fine'" in said.err


def test_a_forced_backfill_says_what_it_leaves_as_it_is(segue, project):
    project.media("song.wav")
    again = ("backfill", "--prefix", "music", "--job", "after", "--force", *LEDGER)
    assert "paused" not in segue(*again).out
    segue("pause", "fine", *LEDGER)
    said = segue(*again)
    assert said.code == ExitCode.UNFINISHED
    assert "paused: after; to go on: segue resume --ledger sqlite:///ledger.db" in said.out


def test_a_backfill_says_what_is_paused(segue, project):
    project.media("song.wav")
    segue("pause", "after", *LEDGER)
    said = segue("backfill", "--prefix", "music", "--job", "after", *LEDGER)
    assert said.code == ExitCode.UNFINISHED
    assert "paused: after; to go on: segue resume" in said.out
    planned = segue("plan", "--prefix", "music", "--job", "after", *LEDGER, "--json").json
    assert planned["jobs"]["after"]["statuses"] == {"paused": 1}
    segue("resume", *LEDGER)
    assert segue("backfill", "--prefix", "music", "--job", "after", *LEDGER).code == ExitCode.OK
