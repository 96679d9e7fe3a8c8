"""The results of one file, shown as values."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from datetime import date, timedelta

import click
import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from segue.media.audio import Audio
from segue.testing.sound import tone, write
from segue_cli.exit_code import ExitCode
from segue_cli.views.values import render_value
from segue_support.results import ResultWriter

LEDGER = ("--ledger", "sqlite:///ledger.db")
BEATS = {
    "tempo_bpm": 120.5,
    "count": 2,
    "level": "half",
    "times_s": [float(n) for n in range(64)],
    "beats": [{"time_s": float(n), "strength": None} for n in range(12)],
    "labels": {"rock": 0.5},
}


@pytest.fixture
def writer(folder) -> Iterator[ResultWriter]:
    made = ResultWriter(folder)
    yield made
    made.ledger.close()


@pytest.fixture
def song(writer):
    """One file with a result of each kind."""
    stereo = Audio(y=np.full((2, 800), 0.5, np.float32), sr=8000)
    writer.write(
        "a.wav",
        beats=BEATS,
        plain="said \x1b[31m",
        table=pa.table({"t_s": [0.0, 0.5], "word": ["yes", "no"]}),
        arrays={"curve": np.arange(100, dtype=np.float32), "grid": np.zeros((2, 3))},
        picture=np.zeros((4, 6), np.uint8),
        stems__vocals=stereo,
        stems__summary={"peaks": [0.5, 0.5]},
    )
    return writer.uri("a.wav")


def test_each_kind_of_result_is_shown_as_what_it_holds(segue, song):
    said = segue("show", song, *LEDGER)
    assert said.code == 0
    lines = said.out.split("\n")
    assert lines[0] == song
    assert "tempo_bpm    120.5" in lines
    assert "labels.rock  0.5" in lines
    (curve,) = [line for line in lines if line.startswith("times_s      64 values, 0 to 63 ▁")]
    assert curve.endswith("█")
    assert "beats        12 rows" in lines
    assert "(value)  said \\x1b[31m" in lines
    assert "0.0  yes" in lines
    assert "  grid: float64, 2 x 3" in lines
    assert any(line.startswith("  curve: 100 values, 0 to 99 ▁") for line in lines)
    assert any(line.startswith("image/png, ") and "6 x 4 pixels" in line for line in lines)
    assert "level, -60 to 0 dBFS: " + 32 * "▇" in lines
    assert "peaks  [0.5, 0.5]" in lines
    assert "absent" not in said.out


def test_a_name_of_two_lines_is_shown_in_one(segue, writer):
    writer.write("new\nline.wav", plain="text")
    said = segue("show", writer.uri("new\nline.wav"), "plain", *LEDGER)
    assert said.code == 0
    assert said.out.startswith(f"{writer.uri('new')}\\nline.wav\n")


def test_a_long_list_of_records_is_shown_in_part(segue, song):
    said = segue("show", song, "beats", *LEDGER, "--rows", "3").out
    assert "… 9 more rows; --rows 12 shows them all" in said
    assert "    null     2.0" in said
    assert "    null     3.0" not in said
    assert "… " not in segue("show", song, "beats", *LEDGER, "--rows", "12").out


def test_json_has_values_and_what_they_are_of(segue, writer, song):
    found = segue("show", song, "beats", "picture", *LEDGER, "--json").json
    assert found["uri"] == song
    beats, picture = found["results"]["beats"], found["results"]["picture"]
    assert beats["value"] == BEATS
    assert beats["fingerprint"] == writer.graph.fingerprints["beats"]
    assert beats["artifact"].startswith("file:///")
    assert beats["finished_at"] == "2026-01-02T03:04:05Z"
    assert (picture["value"]["width"], picture["value"]["height"]) == (6, 4)


def test_a_job_without_a_current_result_is_named(segue, song):
    said = segue("show", song, "absent", "beats", *LEDGER)
    assert said.code == ExitCode.UNFINISHED
    assert "No current result of absent; to see why: segue explain " in said.err
    assert "tempo_bpm" in said.out


def test_a_file_without_any_result_has_nothing_to_show(segue, writer):
    writer.write("b.wav")
    said = segue("show", writer.uri("b.wav"), *LEDGER)
    assert said.code == ExitCode.UNFINISHED
    assert "No current result of any job" in said.err


def test_results_of_an_older_content_are_not_shown(segue, writer, song):
    os.makedirs("music")
    write(tone(440.0, 0.1), "music/a.wav")
    said = segue("show", song, "beats", *LEDGER, "--json")
    assert (said.code, said.json["results"]) == (ExitCode.UNFINISHED, {})


def test_results_of_a_deleted_file_are_not_shown(segue, writer, song):
    writer.delete("a.wav")
    assert segue("show", song, *LEDGER).code == ExitCode.UNFINISHED


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.wav"], "does not exist"),
        (["a.wav", "beets"], "did you mean 'beats'?"),
        (["a.wav", "stems"], "write one of stems.vocals, stems.summary"),
        (["a.wav", "--open"], "name one job"),
        (["a.wav", "beats", "plain", "--open"], "name one job"),
        (["a.wav", "--rows", "0"], "write a whole number of at least 1"),
    ],
)
def test_a_wrong_use_is_refused(segue, song, arguments, said):
    name, *more = arguments
    refused = segue("show", os.path.join(os.path.dirname(song), name), *more, *LEDGER)
    assert refused.code == 2
    assert said in refused.err


def test_a_result_is_opened_as_a_copy_that_is_named_after_its_file(segue, song, monkeypatch):
    opened = []
    monkeypatch.setattr(click, "launch", lambda path, wait: opened.append(path) or 0)
    said = segue("show", song, "stems.vocals", "--open", *LEDGER)
    assert said.code == 0
    (path,) = opened
    assert os.path.basename(path) == "a.stems.vocals.wav"
    assert os.path.getsize(path) > 1600
    assert f"Opened {path}, a copy." in said.err


def test_a_copy_of_a_file_with_a_long_name_has_a_short_one(segue, writer, monkeypatch):
    opened = []
    monkeypatch.setattr(click, "launch", lambda path, wait: opened.append(path) or 0)
    name = 60 * "𝄞" + ".wav"
    writer.write(name, picture=np.zeros((4, 6), np.uint8))
    assert segue("show", writer.uri(name), "picture", "--open", *LEDGER).code == 0
    assert os.path.basename(opened[0]) == 40 * "𝄞" + ".picture.png"


@pytest.mark.skipif(sys.platform != "linux", reason="replaces the program that opens files there")
def test_where_nothing_opens_it_the_copy_is_named(segue, song, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    said = segue("show", song, "picture", "--open", *LEDGER)
    assert said.code == 2
    assert "a.picture.png" in said.err


def test_few_rows_with_many_columns_are_shown_side_by_side():
    streams = [{f"a_long_name_{n}": n + row for n in range(8)} for row in (0, 10)]
    shown = io.StringIO()
    console = Console(width=80, file=shown)
    console.print(*render_value("application/json", 9, {"streams": streams}, 10))
    assert "a_long_name_7  7   17" in shown.getvalue()


def test_a_damaged_artifact_is_named_with_the_remedy(segue, writer, song):
    artifact = segue("show", song, "beats", *LEDGER, "--json").json["results"]["beats"]["artifact"]
    with open(artifact.removeprefix("file://"), "w") as file:
        file.write("{}")
    said = segue("show", song, "beats", *LEDGER)
    assert said.code != 0
    assert "segue backfill --force --job beats" in said.err


def test_a_table_may_have_types_that_json_does_not_have(segue, writer):
    columns = {"on": [date(2020, 1, 2)], "took": [timedelta(seconds=2)], "key": [[b"\xff"]]}
    writer.write("dated.wav", table=pa.table(columns))
    said = segue("show", writer.uri("dated.wav"), "table", *LEDGER)
    assert said.code == 0
    assert said.out.splitlines()[-1].split() == ["2020-01-02", "2.0", '["/w=="]']
