"""Artifacts that are no longer needed: counted first, deleted on request."""

from __future__ import annotations

import os

import pytest

LEDGER = ("--ledger", "sqlite:///ledger.db")


@pytest.fixture
def uris(project):
    """Write a needed artifact, one of an older version, and one of a file of another ledger."""
    media, foreign = project.media("song.wav"), project.media("foreign.wav")
    needed = project.write("fine", media)
    old = project.write("fine", media, "0" * 12)
    other = project.write("fine", foreign)
    project.record(media, {"fine": project.entry("fine", media, artifact=needed)})
    for uri in (needed, old, other):
        os.utime(uri.removeprefix("file://"), (1e9, 1e9))
    return {"needed": needed, "old": old, "other": other}


def exists(uri: str) -> bool:
    return os.path.exists(uri.removeprefix("file://"))


def test_without_delete_they_are_only_counted(segue, uris):
    said = segue("gc", *LEDGER)
    assert said.code == 0
    assert "older version of the job" in said.out
    assert "1 artifact of 3 can be deleted (2 B). To delete them: segue gc --delete" in said.out
    assert "Kept: 1 artifact of files that are not in this ledger" in said.out
    assert all(map(exists, uris.values()))


def test_a_catalogue_may_be_a_folder_as_it_is_typed(segue, uris):
    said = segue("gc", *LEDGER, "--catalogue", "My Music")
    assert (said.code, said.err) == (0, "")
    assert "1 artifact of 3 can be deleted" in said.out


def test_delete_removes_what_is_not_needed_and_certain(segue, uris):
    said = segue("gc", *LEDGER, "--delete")
    assert "Deleted 1 artifact of 3 (2 B)." in said.out
    assert {name: exists(uri) for name, uri in uris.items()} == {
        "needed": True,
        "old": False,
        "other": True,
    }


def test_files_of_other_ledgers_go_on_request_only(segue, uris):
    segue("gc", *LEDGER, "--delete", "--unknown-files")
    assert [exists(uri) for uri in uris.values()] == [True, False, False]


def test_json_names_each_and_counts_all(segue, uris):
    found = segue("gc", *LEDGER, "--json").json
    assert found["total"] == {"artifacts": 1, "size_bytes": 2}
    assert [(a["job"], a["reason"]) for a in found["artifacts"]] == [("fine", "old_fingerprint")]
    assert uris["old"].endswith(found["artifacts"][0]["name"])
    assert (found["deleted"], found["looked_at"], found["kept_of_unknown_files"]) == (False, 3, 1)


def test_names_are_listed_on_request(segue, uris):
    assert "fine/000000000000/" in segue("gc", *LEDGER, "--names").out


def test_what_is_young_is_left_alone(segue, uris):
    os.utime(uris["old"].removeprefix("file://"))
    assert "Nothing to delete" in segue("gc", *LEDGER).out
    assert segue("gc", *LEDGER, "--older-than", "0s", "--json").json["total"]["artifacts"] == 1


@pytest.mark.parametrize("duration", ["", "d", "1", "1y", "-1d", "1.5h"])
def test_an_invalid_duration_is_refused(segue, uris, duration):
    said = segue("gc", *LEDGER, "--older-than", duration)
    assert said.code == 2
    assert "such as 12h" in said.err


def test_without_a_ledger_nothing_is_garbage(segue, uris):
    said = segue("gc", "--ledger", "sqlite:///wrong.db", "--delete", "--unknown-files")
    assert said.code == 2
    assert all(map(exists, uris.values()))
    assert not os.path.exists("wrong.db")
