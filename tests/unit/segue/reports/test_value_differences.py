"""Differences of two results, by content type and over many files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from segue.media.audio import Audio
from segue.reports.value_differences import Difference, compare_values, sum_fields

JSON = "application/json"


def compare(old, new, content_type=JSON):
    return {
        d.field: (d.old, d.new, d.amount, d.is_changed)
        for d in compare_values(content_type, old, new)
    }


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (1, 1.0, (1, 1.0, 0.0, False)),
        (120.0, 119.5, (120.0, 119.5, 0.5, True)),
        ("A", "B", ("A", "B", None, True)),
        (None, None, (None, None, None, False)),
        (None, 3, (None, 3, None, True)),
        (True, False, (True, False, None, True)),
        ([1, 2], [1, 4], ([1, 2], [1, 4], 2, True)),
        ([1.0] * 9, [1.0] * 9, ("9 values", "9 values", 0.0, False)),
        ([1, 2], [1], ([1, 2], [1], None, True)),
        (["a"], ["b"], (["a"], ["b"], None, True)),
        ([], [], ([], [], 0.0, False)),
    ],
)
def test_a_value_differs_by_what_it_is(old, new, found):
    assert compare({"x": old}, {"x": new}) == {"x": found}
    assert compare(old, new) == {"(value)": found}


def test_fields_of_objects_are_compared_one_by_one_those_that_came_or_went_too():
    found = compare({"a": {"b": 1, "gone": 2}}, {"a": {"b": 1, "new": 3}})
    assert found == {
        "a.b": (1, 1, 0.0, False),
        "a.new": (None, 3, None, True),
        "a.gone": (2, None, None, True),
    }


def test_sound_is_compared_by_its_samples():
    old = Audio(y=np.zeros(100, np.float32), sr=8000)
    y = np.zeros(100, np.float32)
    y[7] = 0.25
    found = compare(old, Audio(y=y, sr=8000), "audio/flac")
    assert found["samples"] == ("100", "100", 0.25, True)
    assert found["duration_s"][3] is False
    longer = compare(old, Audio(y=np.zeros(200, np.float32), sr=8000), "audio/flac")
    assert longer["samples"] == ("100", "200", None, True)
    assert longer["duration_s"][2] == pytest.approx(0.0125)


def test_arrays_and_pixels_are_compared_by_their_largest_difference():
    grid = np.array([[1.0, np.nan]])
    assert compare({"g": grid}, {"g": grid.copy()}, "application/x-npz")["g"][3] is False
    found = compare({"g": grid}, {"h": grid}, "application/x-npz")
    assert found == {"h": ("none", "1 x 2", None, True), "g": ("1 x 2", "none", None, True)}
    black, grey = np.zeros((2, 3), np.uint8), np.full((2, 3), 9, np.uint8)
    assert compare(black, grey, "image/png") == {"pixels": ("2 x 3", "2 x 3", 9.0, True)}


def test_tables_and_bytes_are_compared():
    old, new = pa.table({"t": [1.0, 2.0]}), pa.table({"t": [1.0, 2.5]})
    found = compare(old, new, "application/vnd.apache.parquet")
    assert found == {"t": ([1.0, 2.0], [1.0, 2.5], 0.5, True)}
    found = compare(b"abc", b"abd", "application/octet-stream")
    assert found == {"bytes": ("3 bytes", "3 bytes", None, True)}


def test_what_is_no_number_or_infinite_equals_itself_and_has_no_amount():
    table = "application/vnd.apache.parquet"
    old = pa.table({"t": [1.0, np.nan, np.inf], "s": [{"x": np.nan}] * 3})
    same = compare(old, pa.table(old.to_pydict()), table)
    assert [(amount, changed) for *_, amount, changed in same.values()] == [
        (None, False),
        (None, False),
    ]
    assert same["t"][0] == [1.0, "nan", "inf"]
    new = pa.table({"t": [2.0, np.nan, np.inf], "s": [{"x": 1.0}] * 3})
    assert [changed for *_, changed in compare(old, new, table).values()] == [True, True]
    grid = {"g": np.array([np.inf, 1.0])}
    assert compare(grid, {"g": np.array([np.inf, 2.0])}, "application/x-npz")["g"][2:] == (
        None,
        True,
    )


def test_a_field_is_summed_over_all_files():
    values = [(float(n), float(n + (n == 99) * 10)) for n in range(100)]
    found = [
        Difference(field="x", old=a, new=b, amount=abs(b - a), is_changed=a != b) for a, b in values
    ]
    (field,) = sum_fields([*found, Difference(field="x", old=None, new=1, amount=None,
                                              is_changed=True)])  # fmt: skip
    assert (field.files, field.changed) == (101, 2)
    assert (field.old_mean, field.new_mean) == (49.5, 49.6)
    assert (field.median, field.p95, field.largest) == (0.0, 0.0, 10.0)
