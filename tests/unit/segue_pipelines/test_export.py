"""The export pipeline on Beam's local runner, with a ledger and artifacts in folders."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest
from pyarrow import parquet

from segue.errors import ConfigurationError
from segue.reports import result_table
from segue_pipelines import export
from segue_pipelines.export import ExportRun, UriRange, execute, find_pages_of
from segue_pipelines.options import parse_pipeline_options
from segue_support.results import ResultWriter

OPTIONS = ("--direct_num_workers=1",)
BEATS = {
    "tempo_bpm": 120.5,
    "count": 2,
    "level": "half",
    "times_s": [0.5, 1.0],
    "beats": [],
    "labels": {"rock": 0.5},
}


@pytest.fixture
def writer(tmp_path, monkeypatch) -> Iterator[ResultWriter]:
    monkeypatch.chdir(tmp_path)
    made = ResultWriter(tmp_path)
    yield made
    made.ledger.close()


@pytest.fixture
def run(writer):
    return ExportRun(
        graph=writer.graph,
        references=("beats", "plain"),
        ledger=writer.url,
        prefix="",
        output="out",
    )


def export_all(run, *options):
    return execute(run, parse_pipeline_options(options or OPTIONS))


def read_rows(pattern="rows", folder="out"):
    tables = [parquet.read_table(path) for path in sorted(glob.glob(f"{folder}/{pattern}-*"))]
    return pa.concat_tables(tables)


def test_each_file_has_one_row_with_the_types_of_all(writer, run):
    for number in range(7):
        writer.write(f"{number}.wav", beats=BEATS)
    writer.write("1.wav", plain={"x": 1})
    writer.delete("2.wav")
    totals = export_all(run)
    assert (totals.files, totals.rows) == (6, 6)
    assert totals.results == {"beats": 6, "plain": 1}
    table = read_rows()
    found = [uri.rpartition("/")[2] for uri in table.column("uri").to_pylist()]
    assert sorted(found) == [f"{number}.wav" for number in (0, 1, 3, 4, 5, 6)]
    assert table.schema.field("beats.times_s").type.value_type == pa.float64()
    assert sorted(filter(None, table.column("plain.x").to_pylist())) == [1]


def test_ranges_of_the_catalogue_have_each_file_once(writer, run, tmp_path):
    names = [f"{a}{b}/x.wav" for a in "abcdef" for b in "123"]
    for name in names:
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        writer.write(name, plain={"x": 1})
    writer.write("zz-not-in-the-catalogue.wav", plain={"x": 1})
    graph = replace(writer.graph, catalogue=f"file://{tmp_path}/music")
    ranges = list(export._split(b"", replace(run, graph=graph), True))
    assert len(ranges) > 3
    assert (ranges[0].after, ranges[-1].until) == ("", None)
    totals = export_all(replace(run, graph=graph, references=("plain",)), "--direct_num_workers=2")
    assert totals.rows == len(names) + 1
    uris = read_rows().column("uri").to_pylist()
    assert sorted(uris) == sorted(map(writer.uri, [*names, "zz-not-in-the-catalogue.wav"]))


def test_a_range_ends_within_a_page(writer, monkeypatch):
    for name in "abcde":
        writer.write(name, plain={"x": 1})
    part = UriRange(after=writer.uri("a"), until=writer.uri("c"))
    pages = find_pages_of(writer.ledger, writer.uri("").rstrip("/"), part)
    assert [[record.uri for record in page] for page in pages] == [
        [writer.uri("b"), writer.uri("c")]
    ]


def test_keys_are_those_of_all_results_and_rows_of_those_that_are_due(writer, run):
    writer.write("a.wav", beats=BEATS)
    writer.write("b.wav", plain={"x": 1})
    writer.write("c.wav")
    assert export_all(replace(run, with_keys=True)).unchanged == 0
    finished = read_rows().column("beats_finished_at").to_pylist()
    later = max(filter(None, finished)) + timedelta(days=1)
    totals = export_all(replace(run, with_keys=True, since=later, output="later"))
    assert (totals.files, totals.rows, totals.unchanged) == (3, 0, 2)
    assert read_rows(folder="later").num_rows == 0
    keys = read_rows("keys", "later").to_pylist()
    assert sorted(keys, key=str) == sorted(read_rows("keys").to_pylist(), key=str)
    assert {key["uri"] for key in keys} == {writer.uri("a.wav"), writer.uri("b.wav")}


def test_an_artifact_that_cannot_be_read_is_left_out_and_named(writer, run, tmp_path):
    writer.write("a.wav", plain={"x": 1})
    writer.write("b.wav", plain={"x": 2})
    (path,) = (tmp_path / "artifacts").rglob("*a.wav/*.json")
    path.unlink()
    totals = export_all(run)
    assert (totals.rows, totals.unreadable) == (1, {"plain": 1})
    assert totals.left_out_names["missing_input"] == [writer.uri("a.wav")]


def test_a_field_that_is_null_in_the_first_results_has_no_column(writer, run, monkeypatch):
    monkeypatch.setattr(result_table, "MAX_ROWS", 1)
    writer.write("a.wav", plain={"x": 1, "y": None, "o": {}})
    writer.write("b.wav", plain={"x": 2, "y": None, "o": {}})
    assert export_all(run).rows == 2
    assert [n for n in read_rows().column_names if n.startswith("plain.")][2:] == ["plain.x"]
    writer.write("b.wav", "b2", order=2, plain={"x": 2, "y": 0})
    with pytest.raises(ConfigurationError, match="or export without a pipeline, which widens"):
        export_all(replace(run, output="again"))


@pytest.mark.parametrize("options", [OPTIONS, ("--direct_num_workers=2",)])
def test_a_late_surprise_is_an_error_that_names_it(writer, run, monkeypatch, options):
    monkeypatch.setattr(result_table, "MAX_ROWS", 1)
    writer.write("a.wav", plain={"x": 1})
    writer.write("b.wav", plain={"x": 1, "y": 2})
    with pytest.raises(
        ConfigurationError, match=r"b\.wav: 'plain\.y' is a field that no file before"
    ):
        export_all(run, *options)
    assert not list(writer.folder.glob("out/rows*.parquet"))


def test_a_place_that_has_something_is_refused(writer, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/rows-00000-of-00001.parquet").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="rows beside older ones would be there twice"):
        export_all(run)


def test_without_results_there_are_the_declared_columns(run):
    assert export_all(run).rows == 0
    assert "beats.tempo_bpm" in read_rows().column_names
