"""What ``segue up`` writes without a terminal."""

from __future__ import annotations

import io
import json
import os
import sys

import pytest
from rich.console import Console

from segue.errors import ConfigurationError
from segue_cli.commands.up import EventLines
from segue_cli.local.lock import lock_ledger
from segue_cli.views.output import Output
from segue_support.ledger import MemoryLedger

GRAPH = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""
DONE = {
    "severity": "INFO",
    "action": "done",
    "job": "beats",
    "file": "file:///music/雨\x1b[31m.wav",
    "version": "17",
    "seconds": 0.25,
    "process": "stream",
    "namespace": "default",
}


@pytest.fixture
def lines():
    made = EventLines(Output())
    made.folders = {"default": "/music"}
    return made


def test_a_line_for_people_names_what_they_ask_for(lines, capsys):
    lines.write(DONE)
    assert capsys.readouterr().out == "stream: done job=beats file=雨\\x1b[31m.wav took=250 ms\n"


def test_a_warning_says_so(lines, capsys):
    lines.write({"severity": "WARNING", "action": "stopped", "process": "stream", "reason": "dead"})
    assert capsys.readouterr().out == "stream: warning: stopped reason=dead\n"


def test_what_is_wrong_with_a_graph_is_told_in_lines_and_strangers_write_none(lines, capsys):
    error = "jobs.yaml:\njob 'a': \x1b[31m is wrong"
    lines.write({"severity": "ERROR", "action": "changed", "process": "up", "error": error})
    lines.write({**DONE, "action": "failed", "file": "file:///music/a\nb.wav"})
    assert capsys.readouterr().out == (
        "up: error: changed error=jobs.yaml:\n  job 'a': \\x1b[31m is wrong\n"
        "stream: failed job=beats file=a\\nb.wav took=250 ms\n"
    )


@pytest.mark.parametrize("action", ["waiting", "dropped"])
def test_people_do_not_see_the_events_between_components(lines, capsys, action):
    lines.write({**DONE, "action": action})
    assert capsys.readouterr().out == ""


def test_a_line_for_programs_has_everything_and_the_time(capsys):
    EventLines(Output(as_json=True)).write(DONE)
    found = json.loads(capsys.readouterr().out)
    assert found.pop("time")
    assert found == DONE


def test_a_name_that_is_no_text_can_still_be_written(lines, capsys):
    lines.write({**DONE, "file": "file:///music/\udcff.wav"})
    EventLines(Output(as_json=True)).write({**DONE, "file": "\udcff"})
    assert "\\udcff.wav" in capsys.readouterr().out


def test_a_level_hides_what_is_below_it_and_a_file_has_the_rest(capsys, tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    monkeypatch.setenv("SEGUE_LOG_FILE", str(path))
    monkeypatch.setenv("SEGUE_LOG_LEVEL", "warning")
    lines = EventLines(Output())
    lines.write(DONE)
    lines.write({**DONE, "severity": "WARNING", "action": "failed"})
    assert capsys.readouterr().out.startswith("stream: warning: failed job=beats")
    [line] = path.read_text().splitlines()
    assert json.loads(line)["process"] == "stream"


def test_at_the_level_debug_people_see_the_events_between_components(capsys, monkeypatch):
    monkeypatch.setenv("SEGUE_LOG_LEVEL", "debug")
    EventLines(Output()).write({**DONE, "action": "waiting"})
    assert capsys.readouterr().out.startswith("stream: waiting")


def test_a_reader_that_goes_away_ends_it(lines, monkeypatch):
    class Gone:
        def write(self, _text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    lines.write(DONE)
    assert lines.is_closed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder"),
        (["gs://acme/masters"], "come through Eventarc"),
        ([], "no folder is named"),
    ],
)
def test_what_is_no_folder_is_refused(segue, arguments, message):
    said = segue("up", *arguments)
    assert said.code == 2
    assert message in said.err


def test_a_ledger_that_may_not_be_read_is_reported_before_anything_starts(
    segue, tmp_path, monkeypatch
):
    class Refused(MemoryLedger):
        def read(self, uris):
            raise ConfigurationError("no credentials")

    monkeypatch.setattr("segue_cli.local.system.connect_ledger", lambda *_: Refused())
    music = tmp_path / "music"
    music.mkdir()
    said = segue("up", str(music))
    assert (said.code, said.out) == (2, "")
    assert said.err == "segue: error: no credentials\n"


def test_a_second_one_on_the_same_ledger_is_refused(segue, tmp_path):
    (tmp_path / "music").mkdir()
    with lock_ledger("sqlite:///.segue/ledger.db"):
        said = segue("up", "music")
    assert said.code == 2
    assert f"(process {os.getpid()}) uses the ledger" in said.err


def test_a_graph_that_its_code_does_not_match_ends_it_with_the_reason(segue, project):
    project.change_graph(GRAPH.replace("segue_support.jobs:fine", "segue_support.jobs:nothing"))
    said = segue("up", "music")
    assert (said.code, said.out) == (2, "")
    assert "nothing" in said.err


def test_the_namespace_of_each_line_is_shown_if_there_are_several(lines, capsys):
    lines.is_several = True
    lines.folders = {"platform": "/music", "rhythm": "/elsewhere"}
    lines.write({**DONE, "namespace": "platform"})
    lines.write({**DONE, "namespace": "moods"})  # which watches no folder
    lines.write({**DONE, "namespace": "rhythm", "file": "file:///elsewhere/a.wav"})
    lines.write({"action": "stopped", "process": "up", "arrived": 1})
    assert capsys.readouterr().out.splitlines() == [
        "platform stream: done job=beats file=雨\\x1b[31m.wav took=250 ms",
        "moods stream: done job=beats file=雨\\x1b[31m.wav took=250 ms",
        "rhythm stream: done job=beats file=a.wav took=250 ms",
        "up: stopped arrived=1",
    ]


NAMED = "namespace: NAME\ncatalogue: music\n" + GRAPH


@pytest.fixture
def graphs(folder):
    """The files of two graphs, and a folder of music."""
    (folder / "music").mkdir()
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "jobs.yaml").write_text(NAMED.replace("NAME", name))
    return "a/jobs.yaml", "b/jobs.yaml"


@pytest.mark.parametrize("name", ["ledger", "queue", "artifacts"])
@pytest.mark.parametrize("is_option", [True, False])
def test_several_graphs_do_not_share_what_each_has_of_its_own(
    segue, graphs, monkeypatch, name, is_option
):
    arguments = [f"--{name}", "sqlite:///one.db"] if is_option else []
    if not is_option:
        monkeypatch.setenv(f"SEGUE_{name.upper()}", "sqlite:///one.db")
    said = segue("up", *graphs, *arguments)
    assert (said.code, said.out) == (2, "")
    assert f"leave out --{name}, and unset SEGUE_{name.upper()}" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a/jobs.yaml", "a/jobs.yaml"], "a/jobs.yaml and a/jobs.yaml have the namespace 'a'"),
        (["a", "b"], "'a' and 'b' are not files; name one folder"),
        (["a/jobs.yaml", "--graph", "b/jobs.yaml"], "name all of them without --graph"),
        (["a/jobs.yaml", "c/jobs.yaml"], "the graph 'c/jobs.yaml' cannot be read"),
        (["nowhere", "a/jobs.yaml", "b/jobs.yaml"], "a/jobs.yaml: there is no folder"),
    ],
)
def test_graphs_that_do_not_go_together_are_refused(segue, graphs, arguments, message):
    said = segue("up", *arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.err


def test_a_graph_that_is_not_locked_is_reported_beside_the_others(segue, graphs, folder):
    needs = NAMED.replace("media: source", "value: a/fine").replace("NAME", "b")
    (folder / "b/jobs.yaml").write_text(needs)
    (folder / "a/jobs.yaml").write_text("jobs: 1")
    said = segue("up", *graphs)
    assert said.code == 2
    assert "a/jobs.yaml has 1 fault" in said.err
    assert "is not in segue.lock; run 'segue lock'" in said.err
    assert not (folder / ".segue").exists()


PRINTED = {**DONE, "action": "printed", "text": "120 BPM \x1b[31m"}


def test_what_a_job_prints_stands_behind_its_name_and_file(lines, capsys):
    lines.write(PRINTED)
    lines.write({**DONE, "action": "progress", "fraction": 0.404, "text": "tracking"})
    assert capsys.readouterr().out.splitlines() == [
        r"stream: beats 雨\x1b[31m.wav: 120 BPM \x1b[31m",
        r"stream: beats 雨\x1b[31m.wav: 40 % tracking",
    ]


def test_in_a_terminal_only_what_jobs_print_is_written_above_the_page(monkeypatch):
    output, out = Output(), io.StringIO()
    output.__dict__["stdout"] = Console(file=out, force_terminal=True, width=80, color_system=None)
    lines = EventLines(output)
    for line in (DONE, PRINTED, {**DONE, "action": "progress", "fraction": 0.5}):
        lines.write(line)
    assert out.getvalue() == "stream: beats 雨\\x1b[31m.wav: 120 BPM \\x1b[31m\n"
