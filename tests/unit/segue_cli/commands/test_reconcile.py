"""The catalogue compared with the ledger: counted first, repaired on request."""

from __future__ import annotations

import contextlib
import io
import sqlite3
from datetime import UTC, datetime

import pytest

from segue.adapters.connect import connect_queue
from segue.model.message import decode_message
from segue.model.queue import list_subscriptions
from segue.model.record import State

STACK = ("--ledger", "sqlite:///ledger.db", "--queue", "sqlite:///queue.db", "--prefix", "music")
SUBSCRIPTIONS = ("beside.source", "fine.source")
CLEAN = {"unrecorded": 0, "overwritten": 0, "unstarted": 0, "gone": 0}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def files(project):
    """Create one file with each kind of difference, and one without."""
    right, young = project.media("right.wav"), project.media("young.wav")
    project.record(right, {"fine": project.entry("fine", right)})
    project.record(young, {}, arrived_at=datetime.now(UTC))
    project.media("notes.txt")
    media = {"unrecorded": project.media("new.wav")}
    old = project.media("over.wav", b"old")
    project.record(old, {"fine": project.entry("fine", old)})
    media["overwritten"] = project.media("over.wav", b"new")
    media["unstarted"] = project.media("idle.wav")
    project.record(media["unstarted"], {})
    media["gone"] = project.media("gone.wav")
    project.record(media["gone"], {"fine": project.entry("fine", media["gone"])})
    (project.folder / "music/gone.wav").unlink()
    return media


def notified(project) -> list[tuple[str, str]]:
    """Return the files and subscriptions of all messages."""
    if not (project.folder / "queue.db").exists():
        return []
    queue = connect_queue("sqlite:///queue.db")
    names = [s.name for s in list_subscriptions(project.graph, project.graph.pipelines)]
    envelopes = queue.pull(names, limit=100)
    queue.close()
    return sorted((decode_message(one.data).uri, one.subscription) for one in envelopes)


def test_a_file_whose_record_is_damaged_is_left_out_by_name(segue, project):
    media = project.media("song.wav")
    project.record(media, {"fine": project.entry("fine", media)})
    with contextlib.closing(sqlite3.connect("ledger.db")) as ledger, ledger:
        ledger.execute("update files set record = '{'")
    for apply in ((), ("--apply", "--yes")):
        said = segue("reconcile", *STACK, *apply, "--json")
        assert said.code == 3
        assert said.json["left_out"] == {"damaged_record": 1}
        assert said.json["left_out_names"] == {"damaged_record": [media.uri]}
        assert said.json["total"] == 0


def test_without_apply_all_is_counted_and_nothing_is_changed(segue, project, files):
    said = segue("reconcile", *STACK, "--json")
    assert said.code == 0
    assert said.json["kinds"] == {
        kind: {"files": 1, "samples": [media.uri]} for kind, media in files.items()
    }
    found = said.json
    assert (found["dry_run"], found["listed"], found["recorded"]) == (True, 5, 5)
    assert project.known(files["gone"]).deleted_at is None
    assert not (project.folder / "queue.db").exists()


def test_in_a_folder_where_nothing_was_ever_recorded_a_dry_run_makes_nothing(segue, project):
    project.media("new.wav")
    before = sorted(p.name for p in project.folder.iterdir())
    elsewhere = ("--ledger", "sqlite:///none.db", "--queue", "sqlite:///queue.db")
    said = segue("reconcile", "--prefix", "music", *elsewhere)
    assert "1 file to repair; 1 file listed, 0 recorded. Use --apply to repair them." in said.out
    assert sorted(p.name for p in project.folder.iterdir()) == before


def test_apply_repairs_each_kind(segue, project, files):
    said = segue("reconcile", *STACK, "--apply", "--yes")
    assert said.code == 0
    assert "Repaired 4 files; 5 files listed, 5 recorded." in said.out
    assert f"recorded again, and its jobs notified  {files['overwritten'].uri}" in said.out
    there = sorted(media.uri for kind, media in files.items() if kind != "gone")
    assert notified(project) == [(uri, name) for uri in there for name in SUBSCRIPTIONS]
    for kind in ("unrecorded", "overwritten", "unstarted"):
        known, media = project.known(files[kind]), files[kind]
        assert (known.version, known.stat) == (media.version, media.stat)
    assert project.known(files["gone"]).deleted_at is not None
    again = segue("reconcile", *STACK, "--json").json
    # It was recorded long ago, so its jobs are notified again until one of them begins.
    assert {kind: n["files"] for kind, n in again["kinds"].items()} == CLEAN | {"unstarted": 1}


def test_the_jobs_of_a_file_that_was_only_just_recorded_are_notified_on_request(
    segue, project, files
):
    found = segue("reconcile", *STACK, "--older-than", "0s", "--json").json["kinds"]["unstarted"]
    assert [uri.rpartition("/")[2] for uri in found["samples"]] == ["idle.wav", "young.wav"]


def test_what_is_confirmed_in_a_terminal_is_repaired(segue, project, files, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    said = segue("reconcile", *STACK, "--apply")
    assert "exists, but was never recorded" in said.err
    assert "Repaired 4 files" in said.out
    assert project.known(files["gone"]).deleted_at is not None


def test_what_is_not_confirmed_is_left_alone(segue, project, files, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert segue("reconcile", *STACK, "--apply").code == 130
    assert project.known(files["gone"]).deleted_at is None
    assert notified(project) == []


def test_without_a_terminal_to_confirm_in_nothing_is_changed(segue, project, files, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    said = segue("reconcile", *STACK, "--apply")
    assert said.code == 2
    assert "--yes" in said.err
    assert project.known(files["gone"]).deleted_at is None


def test_where_all_is_well_nothing_is_asked(segue, project, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal(""))
    media = project.media("right.wav")
    project.record(media, {"fine": project.entry("fine", media, State.FAILED)})
    said = segue("reconcile", *STACK, "--apply")
    assert (said.code, said.out) == (0, "Nothing to repair: 1 file listed, 1 recorded.\n")


def test_an_empty_catalogue_marks_its_files_as_deleted_only_on_request(segue, project, files):
    for file in (project.folder / "music").iterdir():
        file.unlink()
    said = segue("reconcile", *STACK, "--apply", "--yes")
    assert said.code == 2
    assert "--allow-empty" in said.err
    assert project.known(files["gone"]).deleted_at is None
    said = segue("reconcile", *STACK, "--apply", "--yes", "--allow-empty", "--json")
    assert said.json["kinds"]["gone"]["files"] == 5


def test_our_own_artifacts_are_no_media(segue, project):
    media = project.media("right.wav")
    project.record(media, {"fine": project.entry("fine", media)})
    project.artifacts.create("fine/x.flac", b"", content_type="audio/flac", metadata={})
    found = segue("reconcile", *STACK[:4], "--prefix", ".", "--json").json
    assert (found["listed"], found["total"]) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--prefix", "nowhere/"], "check the path"),
        (["--older-than", "soon"], "such as 12h"),
        (["--aply"], "did you mean '--apply'?"),
        (["--prefix", "music", "--queue", "amqp://broker", "--apply", "--yes"], "pubsub://project"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_remedy(segue, project, arguments, remedy):
    project.media("new.wav")
    said = segue("reconcile", *arguments)
    assert said.code == 2
    assert remedy in said.err


def test_without_a_catalogue_or_a_prefix_it_asks_for_one(segue, project):
    assert "SEGUE_CATALOGUE" in segue("reconcile").err
