"""Rows of tables are values of Python, whether or not pandas is installed."""

from __future__ import annotations

from datetime import datetime, time, timedelta

import pyarrow as pa
import pytest

from segue.codec.table_times import count_cells, limit_times
from segue.errors import CorruptMedia

START_NS = 1_577_840_523_123_456_789
START = datetime(2020, 1, 1, 1, 2, 3, 123456)  # noqa: DTZ001 - of a column without a time zone
STAMP = pa.timestamp("ns")
COLUMNS = {
    "time": (pa.array([START_NS, None], STAMP), START),
    "duration": (pa.array([1_001, None], pa.duration("ns")), timedelta(microseconds=1)),
    "time of day": (pa.array([1_999, None], pa.time64("ns")), time(microsecond=1)),
    "list": (pa.array([[START_NS], None], pa.list_(STAMP)), [START]),
    "large list": (pa.array([[START_NS], None], pa.large_list(STAMP)), [START]),
    "struct": (pa.array([{"x": START_NS}, None], pa.struct([("x", STAMP)])), {"x": START}),
    "map": (pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())), [("a", 1)]),
    "text": (pa.array(["a", None], pa.large_string()), "a"),
    "category": (pa.array(["a", None]).dictionary_encode(), "a"),
}


@pytest.mark.parametrize(("column", "expected"), COLUMNS.values(), ids=COLUMNS)
def test_times_end_at_microseconds_and_all_else_is_as_it_was(column, expected):
    first, second = limit_times(pa.table({"x": column})).column("x").to_pylist()
    assert first == expected
    assert type(first) is type(expected)
    assert second is None


def test_a_time_zone_stays():
    column = pa.array([START_NS], pa.timestamp("ns", "Europe/Berlin"))
    [found] = limit_times(pa.table({"x": column})).column("x").to_pylist()
    assert type(found) is datetime
    assert found.isoformat() == "2020-01-01T02:02:03.123456+01:00"


@pytest.mark.parametrize("data", [b"", b"junk", b"PAR1" + bytes(20) + b"PAR1"])
def test_what_is_no_table_has_no_cells(data):
    with pytest.raises(CorruptMedia, match="the table cannot be read"):
        count_cells(data)
