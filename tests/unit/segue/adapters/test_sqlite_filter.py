"""A condition reads the rows that it is given, and can do nothing else."""

from __future__ import annotations

import pytest

from segue.adapters.sqlite_filter import SqliteFilter
from segue.errors import ConfigurationError

TABLES = {"files": {"uri": ["a", "b", "c"]}, 'odd "job".x': {"n": [1, None, 3]}, "none": {}}


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("n > 0", [0, 2]),
        ("n IS NULL OR uri = 'a'", [0, 1]),
        ('"odd ""job"".x".n = 3', [2]),
        ("true", [0, 1, 2]),
        ("(n = 1) OR (n = 3) -- or (n = 2))", [0, 2]),
        ("uri || ')' IN ('a)', 'b)') /* ) */", [0, 1]),
    ],
)
def test_the_rows_that_meet_a_condition_are_found(condition, found):
    assert SqliteFilter(condition).select(TABLES, 3) == found


def test_a_condition_without_columns_is_asked_for_each_row():
    assert SqliteFilter("1 = 1").select({"files": {}}, 2) == [0, 1]


@pytest.mark.parametrize(
    "condition", ["1) UNION SELECT (99", "1) GROUP BY (1", "n = 1) OR (n = 3", "uri = ')') --"]
)
def test_a_condition_that_ends_before_its_end_is_refused(condition):
    with pytest.raises(ConfigurationError, match=r"it has a \) without a \("):
        SqliteFilter(condition).select(TABLES, 3)


@pytest.mark.parametrize(
    "condition",
    [
        "(SELECT count(*) FROM sqlite_schema)",
        "(SELECT name FROM pragma_database_list)",
        "n IN (WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT i FROM t)",
        "(select count(*) FROM cells AS a, cells AS b, cells AS c) > 0",
        "length(hex(zeroblob(900000000))) > 0",
        "load_extension('x')",
        "1); ATTACH 'x' AS y; --",
    ],
)
def test_a_condition_that_does_more_is_refused(condition, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        SqliteFilter(condition).select(TABLES, 3)
    assert not list(tmp_path.iterdir())
