"""Values of tables and arrays are strict JSON, whatever their type."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest

from segue.reports.result_json import encode_result

VALUES = {
    "time": (datetime(2020, 1, 2, 3, tzinfo=UTC), "2020-01-02T03:00:00+00:00"),
    "date": (date(2020, 1, 2), "2020-01-02"),
    "time of day": (time(1, 2), "01:02:00"),
    "duration": (timedelta(milliseconds=1500), 1.5),
    "decimal": (Decimal("0.10"), "0.10"),
    "bytes": (b"\xff\x00", "/wA="),
    "complex": (1 - 2j, [1.0, -2.0]),
    "large": (2**64 - 1, 2**64 - 1),
    "nan": (math.nan, None),
    "infinite": (-math.inf, None),
    "complex nan": (complex(math.nan, 1.0), [None, 1.0]),
    "map": ([("a", 1.0)], [["a", 1.0]]),
}


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_each_type_of_a_table_has_a_spelling(value, expected):
    text = encode_result({"rows": [{"x": value}, {"x": "beside"}]})
    found = json.loads(text, parse_constant=refuse)
    assert found == {"rows": [{"x": expected}, {"x": "beside"}]}


def test_text_is_escaped_as_everywhere():
    assert encode_result(["ä\x1b", math.nan]) == '["ä\\u001b", null]'
