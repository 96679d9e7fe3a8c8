"""Everything about one file."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from segue.model.lease_owner import build_owner
from segue.model.record import Failure, Lease, State
from segue.worker.running_job import RunningJob, RunningWriter, list_running_folders

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LEDGER = ("--ledger", "sqlite:///ledger.db")


def fill(project, media, **more):
    """Write and record all results of a file; return the artifacts' names."""
    fine = project.write("fine", media)
    after = project.write("after", media, fine=fine)
    beside = project.write("beside", media)
    entries = {
        job: project.entry(job, media, seconds=1.5, finished_at=NOW) for job in project.graph.jobs
    }
    project.record(media, {**entries, **more})
    return {"fine": fine, "after": after, "beside": beside}


def test_a_file_that_is_all_current_is_shown_with_its_lineage(segue, project):
    media = project.media("song.wav")
    made = fill(project, media)
    said = segue("explain", "music/song.wav", *LEDGER)
    assert said.code == 0
    assert "everything is current" in said.out
    assert f"└─ source, version {media.version}" in said.out
    assert project.artifacts.uri(made["after"]) in said.out
    found = segue("explain", media.uri, *LEDGER, "--json").json
    assert found["backfill"] == {"targets": ["fine", "beside", "after"], "run": []}
    assert found["version"] == media.version
    for job in found["jobs"]:
        (result,) = job["results"]
        assert (result["standing"], result["counts"], result["state"]) == ("present", True, "done")
        uri = project.artifacts.uri(made[job["job"]])
        assert result["artifacts"] == [{"name": made[job["job"]], "uri": uri, "exists": True}]
    assert found["artifacts"][made["after"]]["lineage"]["parents"] == {"fine": made["fine"]}


def test_the_results_of_all_versions_of_a_job_are_shown_side_by_side(segue, project):
    media = project.media("song.wav")
    old, removed = "0" * 12, "1" * 12
    name = project.write("fine", media, old)
    fill(
        project,
        media,
        **{
            old: project.entry("fine", media, finished_at=NOW - timedelta(days=9)),
            removed: project.entry("gone_job", media, State.FAILED),
        },
    )
    said = segue("explain", "music/song.wav", *LEDGER)
    lines = said.out.splitlines()
    own = project.graph.fingerprints["fine"]
    (shown,) = [n for n, line in enumerate(lines) if line.startswith(f"  ✓ {own}  present  done")]
    assert lines[shown + 2].startswith(f"    {old}  earlier  done")
    assert lines[shown + 3] == f"      {name}"
    assert any(line.split()[:3] == [removed, "earlier", "failed"] for line in lines)
    assert max(len(line) for line in lines if line[4:16] in (own, old, removed)) <= 80
    found = segue("explain", "music/song.wav", *LEDGER, "--json").json
    fine = next(job for job in found["jobs"] if job["job"] == "fine")
    assert [(r["fingerprint"], r["counts"]) for r in fine["results"]] == [(own, True), (old, False)]
    assert [r["job"] for r in found["removed_jobs"]] == ["gone_job"]


def test_whom_a_result_notifies_and_what_it_is_for_is_shown(segue, project):
    media = project.media("song.wav")
    wanted = project.entry(
        "fine", media, State.QUEUED, notify=("*", "."), notify_at=NOW, requests=("first", "second")
    )
    done = project.entry("beside", media, triggered_by="source@beside")
    other = project.entry("after", media, triggered_by="*")
    project.record(media, {"fine": wanted, "beside": done, "after": other})
    out = segue("explain", "music/song.wav", *LEDGER).out
    assert ", then notifies all who depend on it; requested by second" in out
    assert "event" not in out
    out = segue("explain", "music/song.wav", *LEDGER, "-v").out
    assert "      for the event of source\n" in out
    assert "      for no event; all who depend on it were notified\n" in out


def test_the_traceback_of_a_failure_is_shown_and_that_of_an_earlier_version_if_asked_for(
    segue, project
):
    media = project.media("song.wav")
    error = Failure(kind="job_raised", type="KeyError", message="'a'", traceback="line 3, in f\nx")
    earlier = Failure(kind="job_raised", type="KeyError", message="'a'", traceback="line 4, in f")
    results = {
        "fine": project.failed("fine", media, error=error),
        "0" * 12: project.failed("fine", media, error=earlier),
    }
    project.record(media, results)
    shown = segue("explain", "music/song.wav", *LEDGER).out
    assert "      line 3, in f\n      x\n" in shown
    assert "line 4" not in shown
    assert "      line 4, in f\n" in segue("explain", "music/song.wav", *LEDGER, "-v").out
    found = segue("explain", "music/song.wav", *LEDGER, "--json").json
    assert found["jobs"][0]["results"][0]["error"]["traceback"] == error.traceback


def test_earlier_contents_of_a_file_are_listed(segue, project):
    media = project.media("song.wav")
    kept = {project.graph.fingerprints["fine"]: project.entry("fine", media)}
    project.record(media, {}, earlier={"17": kept})
    assert (
        "earlier content 17: fine, kept in case it comes back"
        in segue("explain", "music/song.wav", *LEDGER).out
    )


def test_each_reason_for_not_being_current_is_shown(segue, project):
    media = project.media("song.wav")
    lease = Lease(owner=build_owner(), expires_at=datetime.now(UTC) + timedelta(hours=1))
    project.record(
        media,
        {
            "fine": project.failed("fine", media, "out_of_memory"),
            "after": project.blocked("after", media, "fine"),
            "beside": project.entry("beside", media, State.RUNNING, lease=lease),
        },
    )
    found = segue("explain", "music/song.wav", *LEDGER, "--json").json
    reasons = {job["job"]: job["reason"] for job in found["jobs"]}
    assert "segue retry" in reasons["fine"]
    assert reasons["after"] == "'fine' above it failed"
    assert "holds it until" in reasons["beside"]
    assert {j["job"]: j["next"] for j in found["jobs"]} == {
        "fine": "failed",
        "after": "blocked",
        "beside": "held",
    }
    out = segue("explain", "music/song.wav", *LEDGER).out
    assert "out_of_memory" in out
    assert "memory_gib" in out
    assert "A backfill would compute nothing." in out
    assert "It would skip fine: failed before" in out


def test_a_pipe_is_left_out_and_not_opened(segue, project):
    project.media("song.wav")
    os.mkfifo("music/radio.wav")
    said = segue("explain", "music/radio.wav", *LEDGER)
    assert said.code == 0
    assert "left out: " in said.out
    assert "A backfill would do nothing" in said.out
    found = segue("explain", "music/radio.wav", *LEDGER, "--json").json
    assert (found["exists"], found["jobs"]) == (False, [])


def test_a_file_that_cannot_be_read_would_be_left_out(segue, project, monkeypatch):
    project.media("song.wav")
    look_at = os.stat

    def refuse(path, *arguments, **options):
        if str(path).endswith("song.wav"):
            raise PermissionError(13, "Permission denied", path)
        return look_at(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)
    said = segue("explain", "music/song.wav", *LEDGER)
    assert "the file cannot be read" in said.out
    assert "A backfill would leave the file out" in said.out
    assert segue("explain", "music/song.wav", *LEDGER, "--json").json["backfill"]["run"] == []


def test_an_artifact_that_is_gone_is_reported(segue, project):
    media = project.media("song.wav")
    made = fill(project, media)
    project.artifacts.delete(made["fine"])
    assert (
        f"{made['fine']}  (this object is gone" in segue("explain", "music/song.wav", *LEDGER).out
    )
    found = segue("explain", "music/song.wav", *LEDGER, "--json").json
    assert found["artifacts"][made["fine"]]["exists"] is False


def test_a_result_made_from_an_older_parent_is_reported(segue, project):
    media = project.media("song.wav")
    old = project.write("fine", media, "0" * 12)
    project.write("fine", media)
    project.write("after", media, fine=old)
    project.record(media, {job: project.entry(job, media) for job in ("fine", "after")})
    assert "not the current one" in segue("explain", "music/song.wav", *LEDGER).out


def test_a_file_that_was_overwritten_starts_afresh(segue, project):
    old = project.media("song.wav")
    name = project.write("fine", old)
    project.record(old, {"fine": project.entry("fine", old)})
    project.media("song.wav", b"another sound")
    said = segue("explain", "music/song.wav", *LEDGER)
    assert "was overwritten since" in said.out
    assert "replaced  done" in said.out
    assert f"      {name}" in said.out.splitlines()
    assert "would compute fine, beside, after." in said.out


def test_what_would_be_done_is_shown_for_a_file_that_is_not_in_the_ledger(segue, project):
    project.media("song.wav")
    said = segue("explain", "song.wav", "--catalogue", "music", "--job", "after", *LEDGER)
    assert said.code == 0
    assert "not in the ledger yet" in said.out
    assert "would compute fine, after." in said.out


def test_a_tombstone_is_reported(segue, project):
    media = project.media("song.wav")
    project.record(media, {}, deleted_at=datetime(2026, 1, 2, tzinfo=UTC))
    (project.folder / "music/song.wav").unlink()
    said = segue("explain", "music/song.wav", *LEDGER)
    assert "the ledger keeps a tombstone" in said.out
    assert "would do nothing: the file is gone" in said.out
    assert segue("explain", media.uri, *LEDGER, "--json").json["exists"] is False


def test_a_file_that_was_erased_says_so(segue, project):
    media = project.media("song.wav")
    project.record(media, {}, deleted_at=datetime(2026, 1, 2, tzinfo=UTC), erased=True)
    said = segue("explain", "music/song.wav", *LEDGER)
    assert "nothing is computed for it again" in said.out
    assert "would do nothing: the file was erased" in said.out
    found = segue("explain", media.uri, *LEDGER, "--json").json
    assert {job["reason"] for job in found["jobs"]} == {"the file was erased"}
    assert found["backfill"]["run"] == []


def test_a_file_that_nobody_knows_is_guessed(segue, project):
    media = project.media("my song.wav")
    project.record(media, {})
    said = segue("explain", "music/my sing.wav", *LEDGER)
    assert said.code == 2
    assert f"did you mean {media.uri!r}" in said.err


def test_a_file_that_resembles_nothing_is_refused_with_what_to_write(segue, project):
    said = segue("explain", "zzz", *LEDGER)
    assert said.code == 2
    assert "a URI" in said.err


def test_another_namespace_s_artifact_that_cannot_be_looked_up_does_not_end_it(segue, project):
    media = project.media("song.wav")
    name = "s3://acme/fine.json"
    project.write("after", media, fine=name)
    project.record(media, {"after": project.entry("after", media)})
    said = segue("explain", "music/song.wav", *LEDGER)
    assert said.code == 0
    assert "cannot be read: 's3://acme" in said.out
    found = segue("explain", "music/song.wav", *LEDGER, "--json").json
    assert found["artifacts"][name]["exists"] is None


def test_of_a_job_that_a_worker_here_runs_it_is_shown_how_far_it_is(segue, project):
    media = project.media("song.wav")
    lease = Lease(owner=build_owner(), expires_at=datetime.now(UTC) + timedelta(hours=1))
    held = {job: project.entry(job, media, State.RUNNING, lease=lease) for job in ("fine", "after")}
    project.record(media, held)
    job = RunningJob(job="fine", uris=(media.uri,), since=NOW, fraction=0.404, text="separating")
    writer = RunningWriter(list_running_folders("sqlite:///ledger.db"))
    writer.write([job, msgspec.structs.replace(job, uris=("file:///other.wav",), fraction=0.9)])
    said = segue("explain", "music/song.wav", *LEDGER)
    since = NOW.astimezone().strftime("%H:%M:%S")
    assert f"fine  running  since {since}, 40 % separating; process" in said.out
    fine, beside, after = segue("explain", "music/song.wav", *LEDGER, "--json").json["jobs"]
    assert (fine["running"]["fraction"], fine["running"]["text"]) == (0.404, "separating")
    assert (after["job"], after["running"]) == ("after", None)  # it has not begun
    assert beside["running"] is None
    writer.remove()
    assert "separating" not in segue("explain", "music/song.wav", *LEDGER).out


def test_what_another_process_runs_is_not_taken_for_the_one_that_holds_the_lease(segue, project):
    media = project.media("song.wav")
    lease = Lease(
        owner="elsewhere:1@boot/17/4/x", expires_at=datetime.now(UTC) + timedelta(hours=1)
    )
    project.record(media, {"fine": project.entry("fine", media, State.RUNNING, lease=lease)})
    writer = RunningWriter(list_running_folders("sqlite:///ledger.db"))
    writer.write([RunningJob(job="fine", uris=(media.uri,), since=NOW, fraction=0.4)])
    assert "40 %" not in segue("explain", "music/song.wav", *LEDGER).out
    writer.remove()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "a.opus",
            "to process it, add to 'include' of the graph: \"*.opus\".",
        ),
        ("readme", "add to 'include' of the graph: a pattern for its name."),
        ("b.wav", "an exclude pattern of the graph; to process it, change 'exclude' of the graph."),
    ],
)
def test_what_is_no_media_is_said_to_be_passed_over(project, segue, name, reason):
    project.media(name)
    head = "include: ['*.wav']\nexclude: ['*/b.*']\n"
    project.change_graph(head + (project.folder / "jobs.yaml").read_text())
    said = segue("explain", f"music/{name}", *LEDGER)
    assert said.out.rstrip().endswith(reason)
    found = segue("explain", f"music/{name}", *LEDGER, "--json").json
    assert found["backfill"]["run"] == []
    assert "pattern of the graph" in found["ignored"]
