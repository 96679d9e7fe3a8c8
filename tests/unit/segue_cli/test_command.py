"""What all commands have in common."""

from __future__ import annotations

import json
import os

import msgspec
import pytest

from segue.log import LOGGER


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("status", "--prefix", "music"), 3),
        (("failures",), 3),
        (("retry", "--yes"), 3),
        (("explain", "music/1.wav"), 1),
        (("gc", "--delete", "--older-than", "0s"), 1),
    ],
)
def test_a_damaged_record_is_named_by_each_command_that_reads_it(segue, project, command, code):
    files = [project.media(f"{n}.wav") for n in range(3)]
    for media in files:
        project.record(media, {"fine": project.failed("fine", media)})
    project.write("fine", files[0])
    with project.ledger._session(), project.ledger._transaction():
        project.ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (files[1].uri,))
    said = segue(*command, "--ledger", "sqlite:///ledger.db")
    assert said.code == code
    assert files[1].uri in said.err
    assert "Traceback" not in said.err
    assert files[0].uri not in said.err


def test_what_is_logged_goes_to_a_file_too(segue, project, tmp_path, monkeypatch):
    monkeypatch.setattr(LOGGER, "handlers", LOGGER.handlers[:])
    media = project.media("1.wav")
    project.record(media, {"fine": project.failed("fine", media)})
    with project.ledger._session(), project.ledger._transaction():
        project.ledger._db.execute("UPDATE files SET record = '{'")
    log = tmp_path / "log.jsonl"
    for _ in range(2):
        segue("failures", "--ledger", "sqlite:///ledger.db", "--log-file", str(log))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["action"] for line in lines] == ["damaged", "damaged"]
    assert "SEGUE_LOG_FILE" not in os.environ


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--log-level", "loud"), "--log-level is 'loud'; write debug, info, warning or error"),
        (("--log-file", "/nowhere/log"), "the log file '/nowhere/log' cannot be written (No such"),
        (("--log-file", "music"), "the log file 'music' cannot be written (Is a directory)"),
    ],
)
def test_a_level_or_file_that_is_wrong_is_refused(segue, project, arguments, message):
    said = segue("status", *arguments)
    assert said.code == 2
    assert message in said.err


LARGE = 2**60 + 1  # a generation of an object that a double cannot hold


def find_large_numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [found for each in value for found in find_large_numbers(each)]
    return [value] if isinstance(value, int) and abs(value) > 2**53 else []


@pytest.mark.parametrize(
    "command",
    [("explain", "music/a.wav"), ("failures",), ("status",), ("retry", "--dry-run")],
    ids=lambda command: command[0],
)
def test_json_has_no_number_that_a_double_cannot_hold(segue, project, command):
    media = msgspec.structs.replace(project.media("a.wav"), version=str(LARGE), order=LARGE)
    project.record(media, {"fine": project.failed("fine", media)})
    said = segue(*command, "--ledger", "sqlite:///ledger.db", "--json")
    assert said.out, said.err
    assert find_large_numbers(said.json) == []
    if command[0] == "failures":
        assert said.json["failures"][0]["version"] == str(LARGE)


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("failures",),
        ("retry", "--yes"),
        ("request", "--job", "fine"),
        ("export", "fine"),
    ],
)
def test_a_prefix_that_is_neither_there_nor_in_the_ledger_is_refused(segue, project, command):
    media = project.media("1.wav")
    project.record(media, {})
    arguments = ("--ledger", "sqlite:///ledger.db", "--prefix")
    said = segue(*command, *arguments, "musik")
    assert (said.code, said.out) == (2, "")
    assert "musik'; check the path" in said.err
    assert segue(*command, *arguments, "music").code == 0
    gone = os.path.dirname(media.uri.removeprefix("file://"))
    os.rename(gone, f"{gone}-elsewhere")
    assert segue(*command, *arguments, gone).code != 2  # what is known of it is still of use
