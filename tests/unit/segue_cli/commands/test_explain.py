"""Everything about one file."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from segue.model.lease_owner import build_owner
from segue.model.record import Lease, State

LEDGER = ("--ledger", "sqlite:///ledger.db")


def test_a_file_that_is_all_current_is_shown_with_its_lineage(segue, project):
    media = project.media("song.wav")
    fine = project.write("fine", media)
    after = project.write("after", media, fine=fine)
    beside = project.write("beside", media)
    made = {"fine": fine, "after": after, "beside": beside}
    entries = {j: project.entry(j, media, artifact=u, seconds=1.5) for j, u in made.items()}
    project.record(media, entries)
    said = segue("explain", "music/song.wav", *LEDGER)
    assert said.code == 0
    assert "everything is current" in said.out
    assert f"└─ source, generation {media.generation}" in said.out
    found = segue("explain", media.uri, *LEDGER, "--json").json
    assert found["backfill"] == {"targets": ["fine", "beside", "after"], "run": []}
    assert all(job["current"] and job["artifact_exists"] for job in found["jobs"])
    assert found["artifacts"][after]["lineage"]["parents"] == {"fine": fine}


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


def test_an_artifact_that_is_gone_is_reported(segue, project):
    media = project.media("song.wav")
    uri = project.write("fine", media)
    project.record(media, {"fine": project.entry("fine", media, artifact=uri)})
    project.artifacts.delete(uri.removeprefix(f"{project.artifacts.location}/"))
    assert "this object is gone" in segue("explain", "music/song.wav", *LEDGER).out


def test_a_result_made_from_an_older_parent_is_reported(segue, project):
    media = project.media("song.wav")
    old = project.write("fine", media, "0" * 12)
    new = project.write("fine", media)
    after = project.write("after", media, fine=old)
    project.record(
        media,
        {
            "fine": project.entry("fine", media, artifact=new),
            "after": project.entry("after", media, artifact=after),
        },
    )
    assert "not the current one" in segue("explain", "music/song.wav", *LEDGER).out


def test_a_file_that_was_overwritten_starts_afresh(segue, project):
    old = project.media("song.wav")
    project.record(old, {"fine": project.entry("fine", old)})
    project.media("song.wav", b"another sound")
    said = segue("explain", "music/song.wav", *LEDGER)
    assert "was overwritten since" in said.out
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
