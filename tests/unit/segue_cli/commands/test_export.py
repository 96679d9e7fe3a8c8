"""The export of results as a table, to a file or to standard output."""

from __future__ import annotations

import csv
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from segue.model.record import State, evolve
from segue.reports import result_table
from segue_cli import table_files
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
    assert table.column_names == ["uri", "version", "fingerprint", "finished_at", *BEATS]
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
    assert [*row] == ["uri", "version", "fingerprint", "finished_at", "tags"]
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
    assert f"1 file in the ledger below {files[1]}." in said.err
    assert [json.loads(line)["uri"] for line in said.out.splitlines()] == [files[1]]


def test_the_summary_as_json(segue, files):
    said = segue("export", "beats", "picture", *LEDGER, "-o", "out.csv", "--json")
    assert said.code == 0
    assert said.json == {
        "output": "out.csv",
        "format": "csv",
        "dry_run": False,
        "columns": [
            *("uri", "version", "beats.fingerprint", "beats.finished_at"),
            *(f"beats.{name}" for name in BEATS),
            *("picture.fingerprint", "picture.finished_at", "picture.artifact"),
        ],
        "files": 3,
        "rows": 3,
        "filtered": 0,
        "jobs": {
            "beats": {"results": 2, "missing": 1, "unreadable": 0},
            "picture": {"results": 1, "missing": 2, "unreadable": 0},
        },
        "unreadable": 0,
        "unreadable_artifacts": [],
    }


@pytest.fixture
def dated(writer):
    """A table with types that JSON does not have, and an array with a number that it has not."""
    table = pa.table({"at": [datetime(2020, 1, 2, tzinfo=UTC)], "key": [b"\xff"]})
    writer.write("a.wav", table=table, arrays={"x": np.array(np.nan), "y": np.array([np.inf, 1])})


def test_types_that_json_does_not_have_are_text_there_and_numbers_that_it_has_not_null(
    segue, dated
):
    where = """"table".rows LIKE '%"/w=="%'"""
    said = segue("export", "table", "arrays", *LEDGER, "--where", where)
    assert said.code == 0
    row = json.loads(said.out, parse_constant=pytest.fail)
    assert row["table.rows"] == [{"at": "2020-01-02T00:00:00+00:00", "key": "/w=="}]
    assert (row["arrays.x"], row["arrays.y"]) == (None, [None, 1.0])


def test_a_csv_has_the_same_and_numbers_as_readers_of_csv_know_them(segue, dated):
    assert segue("export", "table", "arrays", *LEDGER, "-o", "out.csv").code == 0
    with open("out.csv", newline="") as file:
        [row] = csv.DictReader(file)
    assert json.loads(row["table.rows"])[0]["key"] == "/w=="
    assert (row["arrays.x"], row["arrays.y"]) == ("nan", "[null, 1.0]")


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


@pytest.mark.parametrize(
    ("name", "later", "message"),
    [
        ("out.parquet", {"x": "two"}, "b.wav: 'x' is str 'two', which does not fit the type"),
        ("out.arrow", {"x": "two"}, "b.wav: 'x' is str 'two', which does not fit the type"),
        ("out.parquet", {"x": 2**60 + 1, "y": 0.5}, "'x' has integers beyond 2^53"),
        ("out.csv", {"x": 1, "y": 2}, "b.wav: 'y' is a field that no file before it had"),
    ],
)
def test_a_type_mismatch_keeps_the_old_file_and_leaves_nothing(
    segue, writer, folder, monkeypatch, name, later, message
):
    monkeypatch.setattr(result_table, "MAX_ROWS", 1)
    writer.write("a.wav", plain={"x": 1})
    writer.write("b.wav", plain=later)
    writer.write("c.wav", plain={"x": 0.5})
    (folder / name).write_text("old")
    before = sorted(os.listdir())
    said = segue("export", "plain", *LEDGER, "-o", name)
    assert said.code == 2
    assert message in said.err
    assert (folder / name).read_text() == "old"
    assert sorted(os.listdir()) == before
    said = segue("export", "plain", *LEDGER, "-o", "out.jsonl")
    assert (said.code, len((folder / "out.jsonl").read_text().splitlines())) == (0, 3)


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow"])
def test_late_fields_and_wider_types_widen_the_table(segue, writer, folder, monkeypatch, name):
    monkeypatch.setattr(result_table, "MAX_ROWS", 1)
    values = [
        {"x": None, "o": {}, "l": []},
        {"x": 1, "o": {"a": 1}, "l": [{}]},
        {"x": 0.5, "o": {"b": "text"}, "late": [[1]], "l": [{"k": 1}]},
        {},
    ]
    for number, value in enumerate(values):
        writer.write(f"{number}.wav", plain=value)
    assert segue("export", "plain", *LEDGER, "-o", name).code == 0
    table = read_table(name)
    assert table.schema.field("x").type == pa.float64()
    assert table.column("x").to_pylist() == [None, 1.0, 0.5, None]
    assert table.column("o").to_pylist() == [
        None,
        {"a": 1, "b": None},
        {"a": None, "b": "text"},
        None,
    ]
    assert table.column("late").to_pylist() == [None, None, [[1]], None]
    assert table.column("l").to_pylist()[2:] == [[{"k": 1}], None]
    assert table.num_rows == len(values)
    assert [found for found in os.listdir() if "out" in found] == [name]


def test_standard_output_cannot_be_widened_and_the_message_says_what_to_do(writer, folder):
    for number in range(result_table.MAX_ROWS):
        writer.write(f"{number:04}.wav", plain={"x": 1})
    writer.write("last.wav", plain={"x": 1, "y": 2})
    with open("out.arrow", "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "segue_cli", "export", "plain", *LEDGER, "--format", "arrow"],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 2
    assert "last.wav: 'y' is a field that no file before it had" in done.stderr
    assert "or name a file with --output" in done.stderr


def test_an_export_that_is_killed_leaves_nothing(writer, files, folder):
    code = (
        "import os, signal, sys\n"
        "from segue_cli import table_files\n"
        "table_files.ParquetWriter.close = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from segue_cli.main import main\n"
        "main(['export', 'beats', '--ledger', 'sqlite:///ledger.db', '-o', 'out.parquet'])\n"
    )
    before = sorted(os.listdir())
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "jsonl"])
def test_a_full_disk_is_an_error_of_its_own(segue, files, form):
    said = segue("export", "beats", *LEDGER, "-o", "/dev/full", "--format", form)
    assert said.code == 5
    assert "no room is left to write '/dev/full'; free some space" in said.err


def test_without_nameless_files_a_part_is_written_and_renamed(segue, files, monkeypatch):
    monkeypatch.setattr(table_files, "_open_nameless", lambda _folder: None)
    assert segue("export", "beats", *LEDGER, "-o", "out.parquet").code == 0
    assert read_table("out.parquet").num_rows == 2
    assert not [found for found in os.listdir() if found.endswith(".part")]


def test_row_groups_are_larger_than_batches(segue, files, monkeypatch):
    monkeypatch.setattr(result_table, "MAX_ROWS", 1)
    segue("export", "beats", *LEDGER, "-o", "out.parquet")
    assert parquet.ParquetFile("out.parquet").num_row_groups == 1
    monkeypatch.setattr(table_files, "GROUP_ROWS", 1)
    segue("export", "beats", *LEDGER, "-o", "out.parquet")
    assert parquet.ParquetFile("out.parquet").num_row_groups == 2


@pytest.mark.parametrize(
    ("jobs", "where", "names"),
    [
        (["beats"], "tempo_bpm > 120", ["a"]),
        (["beats"], "beats.tempo_bpm IS NULL", ["b"]),
        (["beats"], "json_array_length(times_s) = 0 OR times_s ->> 0 = 0.5", ["a", "b"]),
        (["beats", "plain"], "beats.count = 2 AND plain.tags LIKE '%\"x\"%' -- both", ["a"]),
        (["beats", "picture"], "beats.fingerprint IS NULL", ["c"]),
        (["beats"], "uri LIKE '%/b.wav'", ["b"]),
        (["beats"], "finished_at >= '2027'", []),
        (["beats"], "level = 'no \"such\" column'", []),
    ],
)
def test_a_condition_selects_rows(segue, files, jobs, where, names):
    said = segue("export", *jobs, *LEDGER, "--where", where)
    assert said.code == 0
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["uri"][-5:-4] for row in rows] == names


def test_rows_that_are_left_out_by_a_condition_are_counted(segue, files):
    said = segue("export", "beats", *LEDGER, "--where", "count > 2", "-o", "out.csv", "--json")
    assert (said.json["rows"], said.json["filtered"]) == (0, 2)
    said = segue("export", "beats", *LEDGER, "--where", "tempo_bpm > 0", "-o", "out.csv")
    assert "1 row written to out.csv" in said.out
    assert "1 row left out by --where." in said.out


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv"])
def test_without_results_there_are_the_declared_columns(segue, writer, folder, form):
    said = segue("export", "beats", *LEDGER, "-o", f"out.{form}", "--json")
    assert (said.code, said.json["rows"]) == (0, 0)
    if form == "csv":
        text = (folder / "out.csv").read_text()
        assert (
            text
            == "uri,version,fingerprint,finished_at,tempo_bpm,count,level,times_s,beats,labels\n"
        )
    else:
        assert read_table(f"out.{form}").column_names[4:] == [*BEATS]


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


@pytest.mark.parametrize("prefix", [(), ("--prefix", "music")])
def test_a_terminal_shows_a_bar(files, prefix):
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "segue_cli", "export", "beats", *LEDGER, *prefix, "-o", "out.csv"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        timeout=100,
        check=False,
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "export" in shown
    assert ("3/?" if prefix else "3/3") in shown


@pytest.mark.parametrize(
    ("start", "expected"),
    [("be", ["beats"]), ("st", ["stems.vocals", "stems.summary"]), ("x", [])],
)
def test_jobs_and_outputs_are_completed(writer, start, expected):
    command = load_command("export")
    with command.make_context("export", [], resilient_parsing=True) as ctx:
        (jobs,) = (p for p in command.params if p.name == "jobs")
        assert [item.value for item in jobs.shell_complete(ctx, start)] == expected


def test_a_dash_is_standard_output(segue, files, folder):
    plain = segue("export", "beats", *LEDGER)
    said = segue("export", "beats", "-o", "-", *LEDGER)
    assert (said.code, said.out, said.err) == (0, plain.out, plain.err)
    assert said.out.startswith("{")
    assert not (folder / "-").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("beats", "-o", "out.xls"), "end it in .parquet, .csv, .jsonl, .arrow, or use --format"),
        (("beats", "--json"), "--json writes a summary to standard output"),
        (("stems",), "'stems' has several outputs; write one of stems.vocals, stems.summary"),
        (("beat",), "did you mean 'beats'?"),
        (("beats", "-o", "none/out.csv"), "cannot be written (No such file or directory)"),
        ((), "JOB is missing"),
        (("beats", "--where", "tempo > 1"), "no such column: tempo; the columns are files.uri"),
        (("beats", "--where", '"tempo" > 1'), '"tempo" is no job and no column'),
        (("beats", "--where", "count >"), "'count >' cannot be used: it is incomplete; the col"),
        (("beats", "--where", "(count >)"), 'cannot be used: near ")": syntax error'),
        (("beats", "--where", "(count > 1"), "it has a ( without a )"),
        (("beats", "--where", "uri = 'x"), "it has a ' that is not closed"),
        (("beats", "--where", "count > 1 ORDER BY count"), 'near "ORDER": syntax error'),
        (("beats", "--where", "(SELECT sql FROM sqlite_schema)"), "it has a query"),
        (("beats", "--where", "1); DROP TABLE cells; SELECT (1"), "it has a ) without a ("),
        (("beats", "--where", "count", "--dry-run"), "--dry-run reads no results"),
        (("moods/beats",), "'moods/beats' is not a job of another namespace"),
    ],
)
def test_a_wrong_call_is_refused(segue, files, arguments, message):
    said = segue("export", *arguments, *LEDGER)
    assert (said.code, said.out) == (2, "")
    assert message in said.err


def test_options_of_beam_start_a_pipeline_that_fills_a_folder(segue, files):
    said = segue(
        "export", "beats", "plain", *LEDGER, "-o", "out", "--direct_num_workers=1", "--json"
    )
    assert (said.code, said.json["rows"], said.json["jobs"]["beats"]["missing"]) == (0, 2, 1)
    (name,) = os.listdir("out")
    assert parquet.read_table(f"out/{name}").num_rows == 2
    said = segue("export", "beats", *LEDGER, "-o", "out", "--direct_num_workers=1")
    assert said.code == 2
    assert "rows beside older ones would be there twice" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--direct_num_workers=1",), "name a folder or gs:// prefix with --output"),
        (("--direct_num_workers=1", "-o", "x", "--format", "csv"), "writes all rows as Parquet"),
        (("--direct_num_workers=1", "-o", "x.parquet"), "'x.parquet' is named like a file"),
        (("-o", "gs://bucket/x", "--where", "count"), "leave out --where"),
        (("-o", "gs://bucket/x", "--dry-run"), "leave out --where, --dry-run"),
        (("-o", "out", "--direct_num_worker=1"), "'--direct_num_workers'"),
        (("--staging", "gs://bucket/x"), "--staging belongs to --to"),
    ],
)
def test_a_wrong_call_of_a_pipeline_is_refused(segue, files, arguments, message):
    said = segue("export", "beats", *LEDGER, *arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
