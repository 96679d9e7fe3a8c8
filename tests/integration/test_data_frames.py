"""Jobs that return data frames of pandas and polars, which no extra of Segue brings.

Both are installed beside this environment; see ``frames`` in conftest.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

pytestmark = pytest.mark.xdist_group("frames")  # their packages are installed once

JOBS = """
import datetime

def _columns():
    return {
        "start_s": [0.5, 1.0, None],
        "label": ["a", None, "ä"],
        "count": [1, 2, 3],
        "at": [datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)] * 3,
    }

def with_pandas(media):
    import pandas
    return pandas.DataFrame(_columns())

def concatenated(media):
    import pandas
    frame = with_pandas(media)
    return pandas.concat([frame[:1], frame[1:]], ignore_index=True)

def indexed(media):
    return with_pandas(media).set_index("label")

def filtered(media):
    return with_pandas(media)[lambda frame: frame["count"] > 1]

def twice(media):
    frame = with_pandas(media)
    return frame.rename_axis("count")

def numbered(media):
    import pandas
    return pandas.DataFrame([[1, 2]])

def periods(media):
    import pandas
    return pandas.DataFrame({"month": pandas.period_range("1970-01", periods=2, freq="M")})

def large(media):
    import pandas
    return pandas.DataFrame({"a": [2**70]})

def mixed(media):
    import pandas
    return pandas.DataFrame({"a": [1, "x"]})

def series(media):
    return with_pandas(media)["count"]

def empty(media):
    return with_pandas(media)[:0]

def with_polars(media):
    import polars
    return polars.DataFrame(_columns())

def in_parts(media):
    import polars
    frame = with_polars(media)
    return polars.concat([frame[:1], frame[1:]], rechunk=False)

def objects(media):
    import polars
    return polars.DataFrame({"a": [object(), object()]})

def numbered_index(media):
    return with_pandas(media).rename_axis(3)

def lazy(media):
    return with_polars(media).lazy()

def as_json(media):
    return with_polars(media)
"""
WRITTEN = (
    *("with_pandas", "concatenated", "indexed", "empty", "periods"),
    *("with_polars", "in_parts"),
)
REFUSED = {
    "filtered": "without a name, and Parquet has no index: leave it out with "
    "reset_index(drop=True), or keep it as a column with rename_axis('name')",
    "twice": "cannot insert count, already exists",
    "numbered": "a column is named int 0; names are strings: set frame.columns",
    "numbered_index": "a column is named int 3; names are strings: set frame.columns, or for",
    "objects": "column 'a' of the DataFrame holds objects of Python; give it a type of polars",
    "mixed": "which is no table with one type per column: (\"Could not convert 'x'",
    "large": "which is no table with one type per column: Python int too large",
    "series": "which is no table with one type per column",
    "lazy": "holds a list of dicts, a DataFrame or a pyarrow.Table",
    "as_json": "tables: application/vnd.apache.parquet",
}


@pytest.fixture(scope="module")
def project(frames, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    (folder / "frame_jobs.py").write_text(JOBS)
    (folder / "music").mkdir()
    (folder / "music" / "a.wav").write_bytes(b"sound")
    types = {"as_json": "application/json"}
    (folder / "jobs.yaml").write_text(
        "jobs:\n"
        + "".join(
            f"  {name}: {{run: 'frame_jobs:{name}', needs: {{media: source}}, "
            f"writes: {types.get(name, 'application/vnd.apache.parquet')}}}\n"
            for name in (*WRITTEN, *REFUSED)
        )
    )
    ran = _segue(folder, frames, "backfill", "--prefix", "music", "--all", "--tolerate", "100%")
    assert ran.returncode in (0, 1, 3), ran.stderr
    return folder


def _segue(folder: Path, frames: Path, *arguments: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "segue_cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(frames)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _read(project: Path, job: str) -> tuple[bytes, pa.Table]:
    [path] = (project / ".segue" / "artifacts" / job).rglob("*.parquet")
    return path.read_bytes(), parquet.read_table(path)


def test_a_data_frame_of_pandas_becomes_a_table(project):
    _, table = _read(project, "with_pandas")
    assert table.schema.metadata is None
    assert table.column_names == ["start_s", "label", "count", "at"]
    assert table["start_s"].to_pylist() == [0.5, 1.0, None]
    assert table["label"].to_pylist() == ["a", None, "ä"]
    assert table["count"].type == pa.int64()


def test_how_a_frame_was_put_together_does_not_change_its_bytes(project):
    assert _read(project, "concatenated")[0] == _read(project, "with_pandas")[0]
    assert _read(project, "in_parts")[0] == _read(project, "with_polars")[0]


def test_an_index_with_a_name_becomes_a_column(project):
    assert _read(project, "indexed")[1].column_names == ["label", "start_s", "count", "at"]


def test_a_frame_without_rows_keeps_its_columns(project):
    _, table = _read(project, "empty")
    assert (table.num_rows, table.num_columns) == (0, 4)


def test_types_that_only_pandas_knows_are_stored_as_what_they_are_made_of(project):
    assert _read(project, "periods")[1]["month"].type == pa.int64()


def test_a_data_frame_of_polars_becomes_a_table(project):
    _, table = _read(project, "with_polars")
    assert table.to_pylist() == _read(project, "with_pandas")[1].to_pylist()


@pytest.mark.parametrize(("job", "message"), REFUSED.items())
def test_what_is_no_table_is_refused(project, frames, job, message):
    ran = _segue(project, frames, "failures", "--job", job, "--json")
    [failure] = json.loads(ran.stdout)["failures"]
    assert failure["kind"] == "bad_output"
    assert message in failure["message"]
