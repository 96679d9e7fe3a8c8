"""Erasing files from the command line: what is shown, what is left, and which exit codes follow."""

from __future__ import annotations

import os
import shlex

import pytest

from segue.adapters.connect import connect_ledger, connect_queue
from segue.clock import utc_now
from segue.model.artifact import build_artifact_name
from segue.model.graph import read_graph
from segue.model.ledger import Change
from segue.model.media_file import split_uri
from segue.model.message import decode_message
from segue.model.record import State, evolve
from segue.model.transitions import claim

LEDGER = ("--ledger", "sqlite:///ledger.db")
OLD = "0" * 12


@pytest.fixture
def media(project):
    """A file with results of two versions of a job, beside another file that has one."""
    media, other = project.media("song.wav"), project.media("other.wav")
    for one in (media, other):
        project.write("fine", one)
    project.write("fine", media, OLD)
    entry = project.entry("fine", media)
    project.record(media, {"fine": entry, OLD: entry})
    project.record(other, {"fine": project.entry("fine", other)})
    return media


def count_artifacts(name: str) -> int:
    return sum(f"/{name}/" in f"{path}/" for path, _, files in os.walk("artifacts") if files)


def test_a_dry_run_shows_what_there_is_and_changes_nothing(segue, project, media):
    before = project.known(media)
    said = segue("erase", "music/song.wav", *LEDGER, "--dry-run")
    assert (said.code, said.err) == (0, "")
    words = [line.split() for line in said.out.splitlines()]
    assert ["default", "this", "command", "present", "2"] in words
    assert "Nothing was changed." in said.out
    assert project.known(media) == before
    assert count_artifacts("song.wav") == 2


def test_results_and_artifacts_go_and_the_media_file_stays(segue, project, media):
    said = segue("erase", "music/song.wav", *LEDGER, "--yes")
    assert (said.code, said.err) == (0, "")
    words = [line.split() for line in said.out.splitlines()]
    assert ["default", "this", "command", "erased", "2", "2", "0"] in words
    assert "Erased in 1 namespace: nothing is left" in said.out
    assert f"To delete it: rm {media.uri.removeprefix('file://')}" in said.out
    record = project.known(media)
    assert (record.erased, record.results) == (True, {})
    assert (count_artifacts("song.wav"), count_artifacts("other.wav")) == (0, 1)
    assert os.path.exists("music/song.wav")


def test_the_command_that_is_shown_deletes_the_file_and_then_it_is_not_mentioned(
    segue, project, media
):
    name = "it's a song.wav"
    project.media(name)
    said = segue("erase", f"music/{name}", *LEDGER, "--yes")
    _, shown = said.out.split("To delete it: ")
    assert shlex.split(shown)[0] == "rm"
    os.unlink(shlex.split(shown)[1])
    said = segue("erase", str(project.folder / "music" / name), *LEDGER, "--yes")
    assert said.code == 0
    assert "To delete it" not in said.out


def test_it_says_the_same_as_json_and_again(segue, project, media):
    found = segue("erase", media.uri, *LEDGER, "--yes", "--json").json
    assert (found["dry_run"], found["complete"]) == (False, True)
    [file] = found["files"]
    assert file["uri"] == media.uri
    assert file["media"]["exists"] is True
    assert file["known"] is True
    [own] = file["namespaces"]
    assert own == {
        "namespace": "default",
        "own": True,
        "below": False,
        "state": "erased",
        "artifacts": 2,
        "removed": 2,
        "left": [],
        "running": [],
        "complete": True,
        "remedy": None,
    }
    again = segue("erase", media.uri, *LEDGER, "--yes", "--json").json
    assert again["complete"]
    assert again["files"][0]["namespaces"][0]["removed"] == 0


def test_several_files_are_erased_at_once(segue, project, media):
    said = segue("erase", "music/song.wav", "music/other.wav", *LEDGER, "--yes", "--json")
    assert said.code == 0
    assert [file["complete"] for file in said.json["files"]] == [True, True]
    assert count_artifacts("song.wav") == count_artifacts("other.wav") == 0


def test_without_a_terminal_it_asks_for_yes(segue, project, media):
    said = segue("erase", media.uri, *LEDGER)
    assert said.code == 2
    assert "use --yes" in said.err
    assert not project.known(media).erased
    assert count_artifacts("song.wav") == 2


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 130)])
def test_on_a_terminal_it_shows_what_it_found_and_asks(
    segue, project, media, monkeypatch, answer, code
):
    controller, terminal = os.openpty()
    os.write(controller, answer)
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        said = segue("erase", media.uri, *LEDGER)
    os.close(controller)
    assert said.code == code
    assert "present" in said.err
    assert "Erase 1 file for good?" in said.err
    assert project.known(media).erased == (code == 0)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("music", "is a folder"),
        ("gs://bucket/a/", "is a folder"),
        ("gs://bucket", "is a folder"),
        ("music/sogn.wav", "does not exist; if it is to be erased nevertheless, write its URI"),
    ],
)
def test_what_cannot_be_meant_is_refused(segue, project, media, file, said):
    refused = segue("erase", file, *LEDGER, "--yes")
    assert refused.code == 2
    assert said in refused.err


def test_a_file_that_is_not_known_is_erased_if_it_is_named_in_full(segue, project, media):
    uri = "file:///music/unknown.wav"
    said = segue("erase", uri, *LEDGER, "--yes")
    assert said.code == 0
    assert "No namespace knew this file: check its name." in said.out
    [found] = project.ledger.read([uri])
    assert found.record.erased


def test_a_ledger_that_does_not_exist_is_refused_and_not_created(segue, project):
    said = segue("erase", "gs://b/a.wav", "--ledger", "sqlite:///none.db", "--yes")
    assert said.code == 2
    assert "nothing was computed" in said.err
    assert not os.path.exists("none.db")


def test_a_damaged_record_is_replaced_by_the_tombstone(segue, project, media):
    import sqlite3

    with sqlite3.connect("ledger.db") as database:
        [(table, column)] = [
            (name, c[1])
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for c in database.execute(f"PRAGMA table_info({name})")
            if c[1] == "record"
        ]
        database.execute(f"UPDATE {table} SET {column} = x'00' WHERE uri = ?", [media.uri])
    database.close()
    assert segue("erase", media.uri, *LEDGER, "--dry-run").code == 3
    said = segue("erase", media.uri, *LEDGER, "--yes")
    assert said.code == 0, said
    assert project.known(media).erased
    assert count_artifacts("song.wav") == 0


def test_a_job_that_is_still_running_makes_it_incomplete(segue, project, media):
    def hold(found):
        now = utc_now()
        return claim(found, project.graph, ["after"], owner="x", now=now, lease_s=600), None

    project.ledger.change([Change(uri=media.uri, transition=hold)])
    said = segue("erase", media.uri, *LEDGER, "--yes", "--timeout", "0s")
    assert said.code == 4
    assert "default: after has not ended yet; run the same command again later" in said.out

    def end(found):
        return evolve(found, results={}), None

    project.ledger.change([Change(uri=media.uri, transition=end)])
    assert segue("erase", media.uri, *LEDGER, "--yes").code == 0


# --- several namespaces -------------------------------------------------------------------------

PLATFORM = """
namespace: platform
contact: platform@example.org
registry: registry
jobs:
  fine:
    {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json,
     publish: true}
"""
MOODS = """
namespace: moods
contact: moods@example.org
registry: registry
jobs:
  after:
    {run: "segue_support.jobs:after", needs: {value: platform/fine}, writes: application/json}
"""
BESIDE = """
namespace: beside
contact: beside@example.org
registry: registry
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""
URI = "file:///music/song.wav"


def graph(team: str) -> tuple[str, str]:
    return ("--graph", f"{team}/jobs.yaml")


@pytest.fixture
def teams(segue, folder, monkeypatch):
    """Three namespaces that have the file, of which one is below the first."""
    monkeypatch.delenv("SEGUE_REGISTRY", raising=False)
    for name, text in (("platform", PLATFORM), ("moods", MOODS), ("beside", BESIDE)):
        (folder / name).mkdir()
        (folder / name / "jobs.yaml").write_text(text)
        for command in ("lock", "publish"):
            assert segue(command, *graph(name)).code == 0
        (folder / ".segue" / name).mkdir(parents=True)
        record_file(name)
    return folder


def record_file(team: str) -> None:
    """Have a team's ledger and artifacts know the file."""
    from segue.model.record import Entry, Record

    [(job, fingerprint)] = read_graph(f"{team}/jobs.yaml", {}).fingerprints.items()
    ledger = connect_ledger(f"sqlite:///.segue/{team}/ledger.db", team)
    done = Entry(job=job, state=State.DONE, order=1, checksums={"json": ""})
    record = Record(
        uri=URI, version="ab", order=1, arrived_at=utc_now(), results={fingerprint: done}
    )
    ledger.change([Change(uri=URI, transition=lambda _: (record, None))])
    ledger.close()
    name = build_artifact_name(job, fingerprint, split_uri(URI)[1], "ab", "json")
    path = f".segue/{team}/artifacts/{name}"
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as file:
        file.write("{}")


def test_what_is_left_elsewhere_is_named_with_what_to_do(segue, teams):
    arguments = ("erase", URI, *graph("platform"), "--yes", "--timeout", "0s")
    said = segue(*arguments)
    assert said.code == 4
    words = [line.split() for line in said.out.splitlines()]
    assert ["platform", "this", "command", "erased", "1", "1", "0"] in words
    assert ["moods", "event", "present", "1", "0", "1"] in words
    assert ["beside", "nothing", "present", "1", "0", "1"] in words
    assert "moods: its pipelines have not been told yet; start them" in said.out
    assert (
        "beside: no event of this namespace reaches it; run it there (contact "
        f"beside@example.org): segue erase {URI}"
    ) in said.out

    found = segue(*arguments, "--json")
    assert found.code == 4
    assert not found.json["complete"]
    left = {n["namespace"]: n for n in found.json["files"][0]["namespaces"]}
    assert {name: (n["below"], n["complete"]) for name, n in left.items()} == {
        "platform": (False, True),
        "moods": (True, False),
        "beside": (False, False),
    }
    assert len(left["moods"]["left"]) == 1

    for team in ("moods", "beside"):
        segue("erase", URI, *graph(team), "--yes", "--timeout", "0s")
    assert segue(*arguments).code == 0


def test_those_below_are_told_of_it(segue, teams):
    queue = connect_queue(
        "sqlite:///.segue/moods/queue.db", read_graph("moods/jobs.yaml", {})
    )  # from now on, its subscriptions exist
    segue("erase", URI, *graph("platform"), "--yes", "--timeout", "0s")
    [event] = queue.pull(["after.platform.done-fine"], limit=9)
    queue.close()
    message = decode_message(event.data)
    assert (message.uri, message.trigger) == (URI, "fine")
    assert message.is_erased
    assert message.is_deleted


def test_the_wait_is_shown(segue, teams):
    said = segue("erase", URI, *graph("platform"), "--yes", "--timeout", "1s")
    assert said.code == 4
    assert "waiting for moods, for up to 1 s" in said.err


def test_a_namespace_that_does_not_know_the_file_is_named_and_not_in_the_way(segue, teams):
    uri = "file:///music/other.wav"
    for team in ("platform", "moods"):
        said = segue("erase", uri, *graph(team), "--yes", "--timeout", "0s")
    assert said.code == 0
    assert "beside does not know the file, and is not told." in said.out


def test_a_dry_run_looks_into_every_namespace(segue, teams):
    found = segue("erase", URI, *graph("platform"), "--dry-run", "--json")
    assert found.code == 0
    [file] = found.json["files"]
    assert {n["namespace"]: (n["state"], n["artifacts"]) for n in file["namespaces"]} == {
        "platform": ("present", 1),
        "moods": ("present", 1),
        "beside": ("present", 1),
    }
