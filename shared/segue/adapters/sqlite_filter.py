"""Selects rows by a condition in SQLite's language, which may only read the rows."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import accumulate
from typing import Any

from segue.errors import ConfigurationError

ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
LARGEST = 2**63 - 1
MAX_BYTES = 2**28  # of a value: a function may make one of any size
# What SQLite takes as it is: texts, names in any of its quotes, and comments.
LITERAL = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)""",
    re.DOTALL,
)
Table = Mapping[str, Sequence[Any]]  # by column: the value of each row


class SqliteFilter:
    """A condition on rows whose columns are spread over named tables, such as ``beats.tempo_bpm``.

    It knows no table but these, opens no file, and changes nothing. Lists and objects are JSON for
    it, and true is 1. As in SQL, a comparison with a null is not met.
    """

    def __init__(self, condition: str) -> None:
        self._condition = condition

    def select(self, tables: Mapping[str, Table], count: int) -> list[int]:
        """Return the numbers of the rows, of ``count``, that meet the condition.

        Raises ``ConfigurationError`` with SQLite's words if the condition cannot be evaluated.
        """
        self._check()
        names = [(table, column) for table, columns in tables.items() for column in columns]
        cells = ["number", *(f"c{place}" for place in range(len(names)))]
        values = [range(count), *(tables[table][column] for table, column in names)]
        with closing(sqlite3.connect(":memory:")) as db:
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
            db.execute(f"CREATE TABLE cells ({', '.join(cells)})")
            marks = ", ".join("?" * len(cells))
            insert = f"INSERT INTO cells VALUES ({marks})"  # noqa: S608 - only question marks
            db.executemany(insert, zip(*values, strict=True))
            db.set_authorizer(_authorize)
            try:
                found = db.execute(_build_query(tables, self._condition)).fetchall()
            except (sqlite3.Error, sqlite3.Warning) as error:
                raise ConfigurationError(
                    f"the condition {self._condition!r} cannot be used: {error}"
                ) from error
        return [number for (number,) in found]

    def _check(self) -> None:
        """Refuse a query, and to close the parentheses around the condition."""
        text = LITERAL.sub(" ", self._condition)
        steps = (1 if sign == "(" else -1 for sign in re.findall(r"[()]", text))
        wrong = "a query" if re.search(r"\bselect\b", text, re.IGNORECASE) else ""
        if min(accumulate(steps), default=0) < 0:
            wrong = "a ) without a ("
        if wrong:
            raise ConfigurationError(
                f"the condition {self._condition!r} cannot be used: it has {wrong}; write one "
                "condition on the columns of a row"
            )


def _build_query(tables: Mapping[str, Table], condition: str) -> str:
    """Return a query of which only the condition is the user's, which may read and do no more."""
    parts, place = ["(SELECT rowid AS _row, number AS _number FROM cells) AS _rows"], 0
    for table, columns in tables.items():
        selected = ["rowid AS _row"]
        for column in columns:
            selected.append(f"c{place} AS {quote_name(column)}")
            place += 1
        name, cells = quote_name(table), ", ".join(selected)
        parts.append(f"(SELECT {cells} FROM cells) AS {name} ON {name}._row = _rows._row")  # noqa: S608
    # The line break ends a comment of the condition.
    return f"SELECT _number FROM {' JOIN '.join(parts)} WHERE (\n{condition}\n) ORDER BY _number"  # noqa: S608


def quote_name(name: str) -> str:
    """Return a name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _authorize(action: int, name: str | None, *_others: str | None) -> int:
    if action not in ALLOWED or (action == sqlite3.SQLITE_READ and name not in ("cells", "")):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def is_storable(value: int) -> bool:
    """Whether SQLite keeps an integer as it is."""
    return -LARGEST - 1 <= value <= LARGEST
