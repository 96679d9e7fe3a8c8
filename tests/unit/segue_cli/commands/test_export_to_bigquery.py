"""The export to BigQuery, against a server that speaks its requests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from segue.model.record import evolve
from segue_cli import export_pipeline
from segue_support.bigquery_server import BigQueryServer, serve_bigquery
from segue_support.results import NOW, OLD, ResultWriter

LEDGER = ("--ledger", "sqlite:///ledger.db")
TO = ("--to", "bigquery://acme/music.features")
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
def server(monkeypatch) -> Iterator[BigQueryServer]:
    with serve_bigquery() as made:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", made.url)
        yield made


@pytest.fixture
def export(segue, writer, server):
    def run(*arguments, jobs=("plain",)):
        return segue("export", *jobs, *LEDGER, *TO, *arguments, "--json")

    return run


def list_rows(server, column="x"):
    """Return a column by the name of the file; each file has one row at most."""
    rows = server.rows["features"]
    found = {row["uri"].rpartition("/")[2]: row.get(column) for row in rows}
    assert len(found) == len(rows)
    return found


def write_late(writer, name, version="a1", *, hours, **values):
    """Write results that are finished some hours later than others."""
    writer.write(name, version, **values)
    found = writer.ledger.read([writer.uri(name)])[0].record
    at = NOW + timedelta(hours=hours)
    results = {f: evolve(entry, finished_at=at) for f, entry in found.results.items()}
    writer.put(evolve(found, results=results))


def test_the_first_export_creates_the_table_with_the_types_of_the_results(export, writer, server):
    writer.write("a.wav", beats=BEATS, plain={"x": 1, "none": None})
    said = export(jobs=("beats", "plain"))
    assert (said.code, said.json["rows"], said.json["unchanged"]) == (0, 1, 0)
    kinds = {one["name"]: (one["type"], one["mode"]) for one in server.schemas["features"]}
    assert kinds == {
        "uri": ("STRING", "NULLABLE"),
        "version": ("STRING", "NULLABLE"),
        "beats_fingerprint": ("STRING", "NULLABLE"),
        "beats_finished_at": ("TIMESTAMP", "NULLABLE"),
        "beats_tempo_bpm": ("FLOAT", "NULLABLE"),
        "beats_count": ("INTEGER", "NULLABLE"),
        "beats_level": ("STRING", "NULLABLE"),
        "beats_times_s": ("FLOAT", "REPEATED"),
        "beats_beats": ("RECORD", "REPEATED"),
        "beats_labels": ("RECORD", "REPEATED"),
        "plain_fingerprint": ("STRING", "NULLABLE"),
        "plain_finished_at": ("TIMESTAMP", "NULLABLE"),
        "plain_x": ("INTEGER", "NULLABLE"),
    }
    (row,) = server.rows["features"]
    assert (row["beats_times_s"], row["plain_x"]) == ([0.5, 1.0], 1)
    for load in server.loads:
        assert load["sourceFormat"] == "PARQUET"
        assert load["writeDisposition"] == "WRITE_TRUNCATE"
        assert load["parquetOptions"] == {"enableListInference": True}
    assert [*server.rows] == ["features"]  # the others are removed
    assert len(server.expire) == len(server.loads)


def test_the_next_export_reads_only_what_is_new_and_removes_what_is_gone(
    export, writer, server, folder
):
    for name in ("a.wav", "b.wav", "c.wav"):
        writer.write(name, plain={"x": 1})
    write_late(writer, "z.wav", hours=5, plain={"x": 9})
    assert export().json["rows"] == 4
    (path,) = (folder / "artifacts").rglob("*a.wav/*.json")
    path.unlink()  # nobody reads it again
    writer.delete("b.wav")
    write_late(writer, "c.wav", "b2", order=2, hours=6, plain={"x": 2})
    write_late(writer, "d.wav", hours=6, plain={"x": 3})
    said = export()
    assert (said.code, said.json["unchanged"], said.json["rows"]) == (0, 1, 3)
    assert said.json["since"] == (NOW + timedelta(hours=4)).isoformat()
    assert list_rows(server) == {"a.wav": 1, "c.wav": 2, "d.wav": 3, "z.wav": 9}
    again = export()
    assert (again.json["unchanged"], again.json["rows"]) == (1, 3)
    assert list_rows(server) == {"a.wav": 1, "c.wav": 2, "d.wav": 3, "z.wav": 9}


def test_older_results_that_become_current_are_found_by_their_keys(export, writer, server):
    writer.write("a.wav", plain={"x": 1})
    write_late(writer, "z.wav", hours=5, plain={"x": 9})
    export()
    write_late(writer, "a.wav", "b2", order=2, hours=-48, plain={"x": 2})
    write_late(writer, "new.wav", hours=-24, plain={"x": 3})
    said = export()
    assert said.code == 0
    assert list_rows(server) == {"a.wav": 2, "new.wav": 3, "z.wav": 9}
    assert said.json["rows"] == 3  # in the second look, from the oldest on


def test_results_of_an_earlier_version_of_the_job_give_way(export, writer, server):
    write_late(writer, "a.wav", hours=5, fingerprint=OLD, beats=BEATS)
    export(jobs=["beats"])
    writer.write("a.wav", beats={**BEATS, "tempo_bpm": 60.0})
    export(jobs=["beats"])
    assert list_rows(server, "tempo_bpm") == {"a.wav": 60.0}
    assert list_rows(server, "fingerprint") == {"a.wav": writer.graph.fingerprints["beats"]}


def test_a_result_that_is_no_longer_current_leaves_the_table(export, writer, server):
    writer.write("a.wav", plain={"x": 1})
    writer.write("b.wav", plain={"x": 2})
    export()
    found = writer.ledger.read([writer.uri("a.wav")])[0].record
    writer.put(evolve(found, results={}))
    assert export().code == 0
    assert list_rows(server) == {"b.wav": 2}


def test_an_artifact_that_cannot_be_read_has_no_row_and_is_named(export, writer, server, folder):
    writer.write("a.wav", plain={"x": 1})
    writer.write("b.wav", plain={"x": 2})
    export()
    (path,) = (folder / "artifacts").rglob("*a.wav/*.json")
    path.write_text("{}")
    said = export()
    assert (said.code, said.json["unreadable"]) == (3, 1)
    assert list_rows(server) == {"b.wav": 2}


def test_new_fields_become_columns_and_fields_that_vanish_are_null(export, writer, server):
    writer.write("a.wav", plain={"x": 1, "old": "text"})
    writer.write("b.wav", plain={"x": 2, "old": "text"})
    export()
    write_late(writer, "a.wav", "b2", order=2, hours=1, plain={"x": 3, "new": [1.5]})
    assert export().code == 0
    assert list_rows(server) == {"a.wav": 3, "b.wav": 2}
    assert list_rows(server, "old") == {"a.wav": None, "b.wav": "text"}
    assert list_rows(server, "new")["a.wav"] == [1.5]
    assert server.schemas["features"][-1]["name"] == "new"


def test_integers_go_into_a_column_of_fractions_and_nothing_else_does(export, writer, server):
    writer.write("a.wav", plain={"x": 1.5})
    export()
    write_late(writer, "a.wav", "b2", order=2, hours=1, plain={"x": 2})
    assert export().code == 0
    write_late(writer, "a.wav", "c3", order=3, hours=2, plain={"x": "two"})
    said = export()
    assert said.code == 2
    assert "the column 'x' is FLOAT, and the results have STRING; name another table" in said.err
    assert list_rows(server) == {"a.wav": 2}
    assert [*server.rows] == ["features"]


def test_a_prefix_concerns_the_files_below_it_only(export, writer, server):
    for name in ("one/a.wav", "one-more/b.wav"):
        writer.write(name, plain={"x": 1})
    export()
    writer.delete("one/a.wav")
    writer.delete("one-more/b.wav")
    writer.write("two/c.wav", plain={"x": 2})
    assert export("--prefix", "music/one").code == 0
    assert list_rows(server) == {"b.wav": 1}


def test_an_empty_ledger_does_not_empty_the_table(export, segue, writer, server):
    writer.write("a.wav", plain={"x": 1})
    export()
    assert export("--prefix", "music/none").code == 0  # of which the table has no rows either
    said = segue("export", "plain", *TO, "--ledger", "sqlite:///other.db")
    assert said.code == 2
    assert list_rows(server) == {"a.wav": 1}
    assert "check --ledger and --prefix" in said.err
    writer.delete("a.wav")
    assert export().code == 0
    assert list_rows(server) == {}


@pytest.mark.parametrize("before", [["beats"], ["beats", "plain"]])
def test_a_table_of_other_jobs_is_refused_and_keeps_its_rows(export, writer, server, before):
    writer.write("a.wav", beats=BEATS, plain={"x": 1})
    assert export(jobs=before).code == 0
    rows = list(server.rows["features"])
    said = export(jobs=["plain"])
    assert said.code == 2
    assert "is not a table of these jobs" in said.err or "a table of another job" in said.err
    assert "name another table" in said.err
    assert server.rows["features"] == rows
    assert [*server.rows] == ["features"]


def test_a_dry_run_counts_what_is_due_and_loads_nothing(export, segue, writer, server):
    writer.write("a.wav", plain={"x": 1})
    write_late(writer, "z.wav", hours=5, plain={"x": 9})
    said = export("--dry-run")
    assert (said.code, said.json["rows"], said.json["since"]) == (0, 2, None)
    assert server.loads == []
    export()
    said = segue("export", "plain", *LEDGER, *TO, "--dry-run")
    assert said.out == "1 row to write; 2 files in the ledger.\n1 row unchanged there.\n"


def test_without_results_the_table_has_the_declared_columns(export, server):
    assert export(jobs=["beats"]).code == 0
    assert server.rows["features"] == []
    assert [one["name"] for one in server.schemas["features"]][-1] == "labels"


def test_fields_that_would_be_one_column_are_refused(export, writer, server):
    writer.write("a.wav", plain={"x-y": 1, "x_y": 2})
    said = export()
    assert said.code == 2
    assert "would be the column 'x_y', which another field is already" in said.err


@pytest.mark.parametrize(
    ("request_line", "status", "message", "code", "remedy"),
    [
        ("GET /projects/acme/datasets/music", 404, "Not found", 2, "bq mk --dataset"),
        ("GET /projects/acme/datasets/music", 403, "Denied", 2, "roles/bigquery.dataEditor"),
        ("POST /projects/acme/jobs", 400, "Bad types", 2, "Bad types; check the message"),
        ("POST /projects/acme/jobs", 501, "Out of order", 5, "Out of order; try again later"),
    ],
)
def test_what_bigquery_refuses_is_an_error_with_a_remedy(
    export, writer, server, request_line, status, message, code, remedy
):
    writer.write("a.wav", plain={"x": 1})
    server.failures[request_line] = (status, message)
    said = export()
    assert (said.code, "bigquery://acme/music.features" in said.err) == (code, True)
    assert remedy in said.err
    assert not server.rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "bigquery://acme/features"), "write bigquery://project/dataset.table"),
        (("--to", "bigquery://acme/a.b; DROP"), "write bigquery://project/dataset.table"),
        ((*TO, "-o", "x.parquet"), "excludes --output"),
        ((*TO, "--where", "x > 1"), "excludes --where"),
        ((*TO, "--format", "csv"), "excludes --format"),
        ((*TO, "--staging", "gs://b/x"), "--staging and options of Beam belong together"),
        ((*TO, "--direct_num_workers=1"), "--staging and options of Beam belong together"),
    ],
)
def test_a_wrong_call_is_refused(segue, writer, arguments, message):
    said = segue("export", "plain", *LEDGER, *arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.err


def test_large_files_are_uploaded_in_parts(export, writer, server, monkeypatch):
    monkeypatch.setattr("google.cloud.bigquery.client._MAX_MULTIPART_SIZE", 0)
    writer.write("a.wav", plain={"x": 1})
    assert export().code == 0
    assert list_rows(server) == {"a.wav": 1}


def test_a_pipeline_stages_the_files_and_they_are_removed(
    export, writer, server, monkeypatch, folder
):
    """The pipeline writes to a folder in place of the bucket, from which the server loads."""
    writer.write("a.wav", plain={"x": 1})
    run, connect = export_pipeline.run_export_pipeline, export_pipeline.connect_store

    def to_path(uri):
        return uri.replace("gs://staging", f"{folder}/staging")

    def run_here(*arguments, output, **options):
        run(*arguments, output=to_path(output), **options)

    def read_object(uri):
        (path,) = folder.glob(to_path(uri).removeprefix(f"{folder}/"))
        return path.read_bytes()

    monkeypatch.setattr(export_pipeline, "run_export_pipeline", run_here)
    monkeypatch.setattr(export_pipeline, "connect_store", lambda place: connect(to_path(place)))
    server.read_object = read_object
    beam = ("--staging", "gs://staging/x", "--direct_num_workers=1")
    assert export(*beam).code == 0
    write_late(writer, "b.wav", hours=5, plain={"x": 2})
    write_late(writer, "old.wav", hours=-48, plain={"x": 3})
    said = export(*beam)
    assert (said.code, said.json["rows"]) == (0, 3)  # in the second look
    assert list_rows(server) == {"a.wav": 1, "b.wav": 2, "old.wav": 3}
    assert all(load["sourceUris"][0].startswith("gs://staging/x/") for load in server.loads)
    assert not [path for path in (folder / "staging").rglob("*") if path.is_file()]


def test_a_staging_place_that_bigquery_cannot_read_is_refused(export, server):
    said = export("--staging", "/tmp/x", "--direct_num_workers=1")
    assert said.code == 2
    assert "from which BigQuery cannot load; name a gs:// prefix" in said.err
