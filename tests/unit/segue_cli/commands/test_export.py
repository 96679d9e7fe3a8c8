"""The export of results as a table, to a file or to standard output."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from segue.model.record import State, evolve
from segue.reports import result_table
from segue_cli.main import load_command, main
from segue_support.results import ResultWriter

LEDGER = ("--ledger", "sqlite:///ledger.db")
BEATS = {
    "tempo_bpm": 120.5,
    "count": 2,
    "level": "half",
    "times_s": [0.5, 1.0],
    "beats": [],
    "labels": {"rock": 0.5},
}


@pytest.fixture
def writer(folder) -> Iterator[ResultWriter]:
    made = ResultWriter(folder)
    yield made
    made.ledger.close()


@pytest.fixture
def files(writer):
    """Three files: beats and plain are done for the first, beats for the second."""
    writer.write("a.wav", beats=BEATS, plain={"tags": ["x", 'say "y", z']})
    writer.write("b.wav", beats={**BEATS, "tempo_bpm": None, "times_s": []})
    writer.write("c.wav", picture=np.zeros((2, 2), np.uint8))
    return [writer.uri(name) for name in ("a.wav", "b.wav", "c.wav")]


def read_table(path):
    if path.endswith(".parquet"):
        return parquet.read_table(path)
    with pa.OSFile(path) as file, pa.ipc.open_file(file) as reader:
        return reader.read_all()


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow"])
def test_a_table_of_one_job_has_its_fields_as_columns(segue, writer, files, name):
    said = segue("export", "beats", *LEDGER, "-o", name)
    assert said.code == 0
    assert said.out == (
        f"2 rows written to {name}; 3 files in the ledger.\nbeats: no current result for 1 file.\n"
    )
    table = read_table(name)
    assert table.column_names == ["uri", "version", "fingerprint", *BEATS]
    assert table.column("uri").to_pylist() == files[:2]
    assert table.column("times_s").to_pylist() == [[0.5, 1.0], []]
    assert not [found for found in os.listdir() if found.endswith(".part")]


def test_several_jobs_are_joined_by_file(segue, writer, files):
    segue("export", "beats", "plain", "picture", "beats", *LEDGER, "-o", "out.parquet")
    rows = read_table("out.parquet").select(
        ["uri", "beats.fingerprint", "beats.tempo_bpm", "plain.tags", "picture.artifact"]
    )
    own = writer.graph.fingerprints["beats"]
    first, second, third = (tuple(row.values()) for row in rows.to_pylist())
    assert first == (files[0], own, 120.5, ["x", 'say "y", z'], None)
    assert second == (files[1], own, None, None, None)
    assert third[:4] == (files[2], None, None, None)
    assert third[4].startswith(writer.artifacts.uri("picture/"))


def test_json_lines_go_to_standard_output_and_the_counts_to_standard_error(segue, files):
    said = segue("export", "plain", *LEDGER)
    (row,) = map(json.loads, said.out.splitlines())
    assert [*row] == ["uri", "version", "fingerprint", "tags"]
    assert row["tags"] == ["x", 'say "y", z']
    assert said.err.startswith("1 row written to standard output; 3 files in the ledger.")


def test_lists_are_json_in_a_csv(segue, files):
    said = segue("export", "beats", "plain", *LEDGER, "--format", "csv")
    first, second = csv.DictReader(said.out.splitlines())
    assert json.loads(first["plain.tags"]) == ["x", 'say "y", z']
    assert (first["beats.level"], first["beats.tempo_bpm"]) == ("half", "120.5")
    assert (second["beats.tempo_bpm"], second["plain.tags"]) == ("", "")


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "jsonl"])
def test_standard_output_and_a_file_get_the_same_bytes(folder, files, form, capfdbinary):
    assert main(["export", "beats", *LEDGER, "--format", form]) == 0
    out, _ = capfdbinary.readouterr()
    assert main(["export", "beats", *LEDGER, "-o", f"out.{form}"]) == 0
    assert (folder / f"out.{form}").read_bytes() == out
    assert out


def test_a_prefix_selects_files(segue, files):
    said = segue("export", "beats", *LEDGER, "--prefix", "music/b.wav")
    assert [json.loads(line)["uri"] for line in said.out.splitlines()] == [files[1]]


def test_the_summary_as_json(segue, files):
    said = segue("export", "beats", "picture", *LEDGER, "-o", "out.csv", "--json")
    assert said.code == 0
    assert said.json == {
        "output": "out.csv",
        "format": "csv",
        "dry_run": False,
        "columns": [
            *("uri", "version", "beats.fingerprint"),
            *(f"beats.{name}" for name in BEATS),
            *("picture.fingerprint", "picture.artifact"),
        ],
        "files": 3,
        "rows": 3,
        "jobs": {
            "beats": {"results": 2, "missing": 1, "unreadable": 0},
            "picture": {"results": 1, "missing": 2, "unreadable": 0},
        },
        "unreadable": 0,
        "unreadable_artifacts": [],
    }


def test_a_dry_run_counts_and_reads_and_writes_nothing(segue, writer, files, folder):
    for path in (folder / "artifacts").rglob("*.json"):
        path.unlink()
    said = segue("export", "beats", *LEDGER, "-o", "out.csv", "--dry-run", "--json")
    assert (said.code, said.json["rows"], said.json["dry_run"]) == (0, 2, True)
    assert segue("export", "beats", *LEDGER, "--dry-run").out.startswith("2 rows to write; 3 files")
    assert not (folder / "out.csv").exists()


def test_an_artifact_that_cannot_be_read_is_left_out_and_named(segue, writer, files, folder):
    (path,) = (folder / "artifacts/beats").rglob("*a.wav/*.json")
    path.write_bytes(b"{}")
    said = segue("export", "beats", "plain", *LEDGER, "-o", "out.parquet", "--json")
    assert said.code == 3
    assert f"--prefix {files[0]}" in said.err
    assert said.json["unreadable"] == 1
    assert said.json["jobs"]["beats"] == {"results": 1, "missing": 1, "unreadable": 1}
    assert said.json["unreadable_artifacts"][0]["job"] == "beats"
    rows = read_table("out.parquet").to_pylist()
    assert [(r["uri"], r["beats.fingerprint"] is None) for r in rows] == [
        (files[0], True),
        (files[1], False),
    ]
    said = segue("export", "beats", *LEDGER, "-o", "out.jsonl")
    assert said.code == 3
    assert said.out.endswith("1 artifact cannot be read.\n")
    assert said.out.startswith("1 row written")


def test_a_damaged_record_is_an_exit_code_of_its_own(segue, writer, files):
    with writer.ledger._session(), writer.ledger._transaction():
        writer.ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (files[0],))
    said = segue("export", "beats", *LEDGER)
    assert said.code == 3
    assert files[0] in said.err
    assert [json.loads(line)["uri"] for line in said.out.splitlines()] == [files[1]]


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out.csv"])
def test_a_misfit_keeps_the_old_file_and_leaves_no_part(segue, writer, folder, monkeypatch, name):
    monkeypatch.setattr(result_table, "MAX_ROWS", 1)
    writer.write("a.wav", plain={"x": 1})
    writer.write("b.wav", plain={"x": 1, "y": 2})
    (folder / name).write_text("old")
    said = segue("export", "plain", *LEDGER, "-o", name)
    assert said.code == 2
    assert "b.wav: 'y' is a field that no file before it had" in said.err
    assert (folder / name).read_text() == "old"
    assert not [found for found in os.listdir() if found.endswith(".part")]
    said = segue("export", "plain", *LEDGER, "-o", "out.jsonl")
    assert (said.code, len((folder / "out.jsonl").read_text().splitlines())) == (0, 2)


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv"])
def test_without_results_there_are_the_declared_columns(segue, writer, folder, form):
    said = segue("export", "beats", *LEDGER, "-o", f"out.{form}", "--json")
    assert (said.code, said.json["rows"]) == (0, 0)
    if form == "csv":
        text = (folder / "out.csv").read_text()
        assert text == "uri,version,fingerprint,tempo_bpm,count,level,times_s,beats,labels\n"
    else:
        assert read_table(f"out.{form}").column_names[3:] == [*BEATS]


def test_unfinished_results_are_not_exported(segue, writer):
    writer.write("a.wav", plain={"x": 1})
    record = writer.ledger.read([writer.uri("a.wav")])[0].record
    results = {f: evolve(e, state=State.FAILED) for f, e in record.results.items()}
    writer.put(evolve(record, results=results))
    assert segue("export", "plain", *LEDGER).out == ""


def test_a_pipe_is_written_as_it_is(segue, files, folder):
    os.mkfifo("pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((folder / "pipe").read_bytes()))
    reader.start()
    said = segue("export", "beats", *LEDGER, "-o", "pipe", "--format", "jsonl")
    reader.join()
    assert said.code == 0
    assert len(got[0].splitlines()) == 2


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a,b", 'say "a"', " a ", "\u202ea", "=1+1"])
def test_a_text_of_any_kind_survives_in_every_format(segue, writer, folder, text):
    writer.write("a.wav", plain={"text": text, "texts": [text]})
    for form in ("parquet", "arrow"):
        segue("export", "plain", *LEDGER, "-o", f"out.{form}")
        assert read_table(f"out.{form}").to_pylist()[0]["text"] == text
    segue("export", "plain", *LEDGER, "-o", "out.csv")
    with open("out.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["text"], json.loads(row["texts"])) == (text, [text])
    said = segue("export", "plain", *LEDGER)
    assert json.loads(said.out)["text"] == text
    assert said.out.rstrip("\n").isprintable()


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "jsonl"])
def test_only_json_lines_go_to_a_terminal(files, form):
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "segue_cli", "export", "plain", *LEDGER, "--format", form],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
    )
    os.close(theirs)
    os.close(ours)
    if form == "jsonl":
        assert done.returncode == 0
    else:
        assert done.returncode == 2
        assert f"{form} is not for a terminal" in done.stderr


@pytest.mark.parametrize(
    ("start", "expected"),
    [("be", ["beats"]), ("st", ["stems.vocals", "stems.summary"]), ("x", [])],
)
def test_jobs_and_outputs_are_completed(writer, start, expected):
    command = load_command("export")
    with command.make_context("export", [], resilient_parsing=True) as ctx:
        (jobs,) = (p for p in command.params if p.name == "jobs")
        assert [item.value for item in jobs.shell_complete(ctx, start)] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("beats", "-o", "out.xls"), "end it in .parquet, .csv, .jsonl, .arrow, or use --format"),
        (("beats", "--json"), "--json writes a summary to standard output"),
        (("stems",), "'stems' has several outputs; write one of stems.vocals, stems.summary"),
        (("beat",), "did you mean 'beats'?"),
        (("beats", "-o", "none/out.csv"), "cannot be written (No such file or directory)"),
        ((), "Missing argument"),
    ],
)
def test_a_wrong_call_is_refused(segue, files, arguments, message):
    said = segue("export", *arguments, *LEDGER)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
