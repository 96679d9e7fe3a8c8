"""What ``segue up`` writes where nobody looks at a terminal."""

from __future__ import annotations

import json
import sys

import pytest

from segue.errors import ConfigurationError
from segue_cli.commands.up import Lines
from segue_cli.views.output import Output
from segue_support.ledger import MemoryLedger

DONE = {
    "severity": "INFO",
    "action": "done",
    "job": "beats",
    "file": "file:///music/雨\x1b[31m.wav",
    "generation": 17,
    "seconds": 0.25,
    "process": "stream",
}


@pytest.fixture
def lines():
    made = Lines(Output())
    made.folder = "/music"
    return made


def test_a_line_for_people_names_what_they_ask_for(lines, capsys):
    lines.tell(DONE)
    assert capsys.readouterr().out == "stream: done job=beats file=雨\\x1b[31m.wav took=250 ms\n"


def test_a_warning_says_so(lines, capsys):
    lines.tell({"severity": "WARNING", "action": "stopped", "process": "stream", "reason": "dead"})
    assert capsys.readouterr().out == "stream: warning: stopped reason=dead\n"


def test_people_are_not_told_what_the_parts_say_among_themselves(lines, capsys):
    lines.tell({**DONE, "action": "waiting"})
    assert capsys.readouterr().out == ""


def test_a_line_for_programs_has_everything_and_the_time(capsys):
    Lines(Output(as_json=True)).tell(DONE)
    found = json.loads(capsys.readouterr().out)
    assert found.pop("time")
    assert found == DONE


def test_a_name_that_is_no_text_can_still_be_written(lines, capsys):
    lines.tell({**DONE, "file": "file:///music/\udcff.wav"})
    Lines(Output(as_json=True)).tell({**DONE, "file": "\udcff"})
    assert "\\udcff.wav" in capsys.readouterr().out


def test_a_reader_that_goes_away_ends_it(lines, monkeypatch):
    class Gone:
        def write(self, _text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    lines.tell(DONE)
    assert lines.is_cut


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "there is no folder"),
        (["gs://acme/masters"], "come through Eventarc"),
        ([], "no folder is named"),
    ],
)
def test_what_is_no_folder_is_refused(segue, arguments, told):
    said = segue("up", *arguments)
    assert said.code == 2
    assert told in said.err


def test_a_ledger_that_may_not_be_read_is_told_before_anything_starts(segue, tmp_path, monkeypatch):
    class Refused(MemoryLedger):
        def read(self, uris):
            raise ConfigurationError("no credentials")

    monkeypatch.setattr("segue_cli.local.system.connect_ledger", lambda _url: Refused())
    music = tmp_path / "music"
    music.mkdir()
    said = segue("up", str(music))
    assert (said.code, said.out) == (2, "")
    assert said.err == "segue: error: no credentials\n"
