"""Results as a table: a row for each file, with the types that the job declares."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest

import segue
from segue import extras
from segue.errors import ConfigurationError, MissingInput, Unavailable
from segue.extras import MissingPackage, require_package
from segue.model.graph import parse_graph
from segue.reports import result_table
from segue.reports.result_table import THREADS, find_arrow_type, read_ahead
from segue.reports.results import FileResults
from segue_support.results import NOW, OLD

BUCKET = parse_graph(
    """
artifacts: gs://bucket/features
jobs:
  fine: {run: "m:f", needs: {media: source}, writes: application/json}
"""
)
BEATS = {
    "tempo_bpm": 120,
    "count": 2,
    "level": "half",
    "times_s": [0.5, 1],
    "beats": [{"time_s": 0.5, "strength": None}, {"time_s": 1.0, "strength": 0.5}],
    "labels": {"rock": 0.5, "pop": 1},
}


def find(writer, job):
    return segue.results(job, graph=writer.graph, ledger=writer.url)


def test_the_columns_have_the_types_that_the_job_declares(writer):
    writer.write("a.wav", beats={**BEATS, "tempo_bpm": None, "times_s": [], "beats": []})
    writer.write("b.wav", beats=BEATS)
    table = find(writer, "beats").to_arrow()
    beat = pa.struct([("time_s", pa.float64()), ("strength", pa.float64())])
    assert table.schema == pa.schema(
        [
            ("uri", pa.string()),
            ("version", pa.string()),
            ("fingerprint", pa.string()),
            ("finished_at", pa.timestamp("us", "UTC")),
            ("tempo_bpm", pa.float64()),
            ("count", pa.int64()),
            ("level", pa.string()),
            ("times_s", pa.list_(pa.float64())),
            ("beats", pa.list_(beat)),
            ("labels", pa.map_(pa.string(), pa.float64())),
        ]
    )
    row = table.to_pylist(maps_as_pydicts="strict")[1]
    assert row == {
        "uri": writer.uri("b.wav"),
        "version": "a1",
        "fingerprint": writer.graph.fingerprints["beats"],
        "finished_at": NOW,
        **BEATS,
    }


def test_without_results_the_declared_columns_are_there(writer):
    table = find(writer, "beats").to_arrow()
    assert table.num_rows == 0
    assert table.schema.field("times_s").type == pa.list_(pa.float64())


def test_the_types_of_an_output_are_those_that_the_job_declares_for_it(writer):
    writer.write("a.wav", stems__summary={"peaks": []})
    table = find(writer, "stems.summary").to_arrow()
    assert table.schema.field("peaks").type == pa.list_(pa.float64())


def test_without_a_schema_the_types_are_those_of_the_first_batch(writer):
    writer.write("a.wav", plain={"x": 1, "nested": [[1.5], []]})
    writer.write("b.wav", plain={"y": "text"})
    table = find(writer, "plain").to_arrow()
    assert table.schema.field("nested").type == pa.list_(pa.list_(pa.float64()))
    assert table.column("x").to_pylist() == [1, None]
    assert table.column("y").to_pylist() == [None, "text"]


def test_code_that_is_not_installed_declares_no_types(writer):
    writer.write("a.wav", absent={"x": 1})
    assert find(writer, "absent").to_arrow().column("x").to_pylist() == [1]


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({"x": "two"}, "b.wav: 'x' is str 'two', which does not fit the type of the column, int64"),
        ({"x": 2.5}, "b.wav: 'x' is float 2.5"),
        ({"x": 2**70}, "b.wav: 'x' is int"),
        ({"z": 1}, "b.wav: 'z' is a field that no file before it had"),
        ({"o": {"b": 1}}, "b.wav: 'o' is an object with the key 'b'"),
        ({"o": [["a", 1]]}, "b.wav: 'o' is list"),
        ({"o": {"a": 0.5}}, "b.wav: 'o' is float 0.5"),
        ({"l": "ab"}, "b.wav: 'l' is str 'ab'"),
        ({"l": [1]}, "b.wav: 'l' is list"),
    ],
)
def test_a_later_value_that_does_not_fit_is_named_with_its_file(
    writer, monkeypatch, later, message
):
    monkeypatch.setattr(result_table, "MAX_ROWS", 1)
    writer.write("a.wav", plain={"x": 1, "o": {"a": 1}, "l": ["a"]})
    writer.write("b.wav", plain=later)
    batches = find(writer, "plain").to_batches()
    assert next(batches).num_rows == 1
    with pytest.raises(ConfigurationError) as caught:
        next(batches)
    assert message in str(caught.value)
    assert "annotate what the job returns" in str(caught.value)


def test_values_of_several_types_in_the_first_batch_are_an_error(writer):
    writer.write("a.wav", plain={"x": 1})
    writer.write("b.wav", plain={"x": "two"})
    with pytest.raises(ConfigurationError, match="'x' has values of several types"):
        find(writer, "plain").to_arrow()


def test_a_value_that_the_job_does_not_declare_so_is_an_error(writer):
    writer.write("a.wav", beats={**BEATS, "beats": [{"time_s": 1.0, "beat": 1}]})
    with pytest.raises(ConfigurationError, match="'beats' is an object with the key 'beat'"):
        find(writer, "beats").to_arrow()


def test_fields_that_the_job_does_not_declare_are_kept(writer):
    writer.write("a.wav", fingerprint=OLD, beats={**BEATS, "bars": [1]})
    assert find(writer, "beats").to_arrow().column("bars").to_pylist() == [[1]]


def test_batches_are_bounded_by_rows_and_by_bytes(writer, monkeypatch):
    for number in range(5):
        writer.write(f"{number}.wav", plain={"x": "x" * 100})
    monkeypatch.setattr(result_table, "MAX_ROWS", 2)
    assert [b.num_rows for b in find(writer, "plain").to_batches()] == [2, 2, 1]
    monkeypatch.setattr(result_table, "MAX_BYTES", 100)
    assert [b.num_rows for b in find(writer, "plain").to_batches()] == [1] * 5


def test_tables_arrays_and_plain_values_have_columns_and_images_their_uri(writer):
    writer.write(
        "a.wav",
        table=[{"t": 1.0}, {"t": 2.0}],
        arrays={"mfcc": np.ones((1, 2))},
        picture=np.zeros((2, 2), np.uint8),
        plain=[1, 2],
    )
    tables = {job: find(writer, job).to_arrow() for job in ("table", "arrays", "picture", "plain")}
    assert tables["table"].column("rows").to_pylist() == [[{"t": 1.0}, {"t": 2.0}]]
    assert tables["arrays"].column("mfcc").to_pylist() == [[[1.0, 1.0]]]
    (picture,) = find(writer, "picture")
    assert tables["picture"].column("artifact").to_pylist() == [picture.artifact]
    assert tables["plain"].column("value").to_pylist() == [[1, 2]]


def test_the_artifact_of_an_image_is_a_column_from_the_start(writer):
    table = find(writer, "picture").to_arrow()
    assert table.schema.field("artifact").type == pa.string()


def test_a_field_with_the_name_of_a_fixed_column_is_renamed(writer):
    writer.write("a.wav", plain={"fingerprint": "AQAA", "uri": 1})
    table = find(writer, "plain").to_arrow()
    assert table.column("fingerprint").to_pylist() == [writer.graph.fingerprints["plain"]]
    assert table.column("fingerprint_").to_pylist() == ["AQAA"]
    assert table.column("uri_").to_pylist() == [1]


def test_an_artifact_that_cannot_be_read_ends_the_table(writer):
    writer.write("a.wav", plain={"x": 1})
    (result,) = find(writer, "plain")
    result.path().unlink()
    with pytest.raises(MissingInput, match="segue backfill --force"):
        find(writer, "plain").to_arrow()


def test_artifacts_of_a_bucket_are_read_at_once_in_order_and_not_too_far_ahead():
    taken, meet = [], threading.Barrier(THREADS, timeout=60)

    def list_files():
        for number in range(4 * THREADS):
            taken.append(number)
            yield FileResults(uri=f"gs://bucket/{number}", version="1", results={})

    def read(file):
        if int(file.uri.rpartition("/")[2]) < THREADS:
            meet.wait()  # for all others, which are read at the same time
        return file.uri

    found = read_ahead(BUCKET, list_files(), read)
    file, uri = next(found)
    assert file.uri == uri == "gs://bucket/0"
    assert len(taken) == THREADS + 1
    assert [uri for _, uri in found] == [f"gs://bucket/{n}" for n in range(1, 4 * THREADS)]


def test_an_error_of_one_file_of_a_bucket_ends_the_reading():
    files = [FileResults(uri=f"gs://bucket/{n}", version="1", results={}) for n in range(3)]

    def read(file):
        if file.uri.endswith("/1"):
            raise Unavailable("the bucket is gone")
        return file.uri

    found = read_ahead(BUCKET, files, read)
    assert next(found)[1] == "gs://bucket/0"
    with pytest.raises(Unavailable):
        next(found)


def test_pandas_is_asked_for_only_when_it_is_needed(writer, monkeypatch):
    monkeypatch.setattr(extras, "_can_be_found", lambda name: name != "pandas")
    with pytest.raises(MissingPackage) as caught:
        find(writer, "plain").to_pandas()
    assert str(caught.value) == (
        "to_pandas() needs the package 'pandas'; install it with 'pip install pandas', or use "
        "to_arrow()"
    )
    assert isinstance(caught.value, ImportError)
    require_package("a test", "numpy", "nothing")


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, pa.float64()),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, None),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, pa.bool_()),
        ({"type": "array"}, None),
        ({"type": "array", "items": {}}, None),
        (
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}]},
            pa.list_(pa.int64()),
        ),
        ({"type": "object"}, None),
        ({"enum": [1, 2]}, None),
        ({}, None),
        ({"$ref": "#/$defs/Loop"}, None),
    ],
)
def test_a_schema_without_a_single_type_has_none(schema, expected):
    loop = {"type": "object", "properties": {"inner": {"$ref": "#/$defs/Loop"}}}
    assert find_arrow_type(schema, {"Loop": loop}) == expected
