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
            query = _build_query(tables)
            try:
                # The line break ends a comment of the condition.
                sql = f"{query} WHERE (\n{self._condition}\n) ORDER BY _number"
                found = db.execute(sql).fetchall()
            except (sqlite3.Error, sqlite3.Warning) as error:
                why = _find_error(db, f"{query} WHERE {self._condition}") or error
                raise ConfigurationError(
                    f"the condition {self._condition!r} cannot be used: {why}"
                ) from error
        return [number for (number,) in found]

    def _check(self) -> None:
        """Refuse a query, and to close the parentheses around the condition, or leave others open.

        SQLite would name what the user has not typed.
        """
        text = LITERAL.sub(" ", self._condition)
        depths = [*accumulate(1 if sign == "(" else -1 for sign in re.findall(r"[()]", text)), 0]
        wrong = "a query" if re.search(r"\bselect\b", text, re.IGNORECASE) else ""
        if quote := re.search(r"""['"`\[]""", text):
            wrong = f"a {quote[0]} that is not closed"
        elif min(depths) < 0:
            wrong = "a ) without a ("
        elif len(depths) > 1 and depths[-2] > 0:
            wrong = "a ( without a )"
        if wrong:
            raise ConfigurationError(
                f"the condition {self._condition!r} cannot be used: it has {wrong}; write one "
                "condition on the columns of a row"
            )


def _find_error(db: sqlite3.Connection, query: str) -> str:
    """Return SQLite's words about a query that ends with the condition; none if it has none."""
    try:
        db.execute(query)
    except (sqlite3.Error, sqlite3.Warning) as error:
        return "it is incomplete" if str(error) == "incomplete input" else str(error)
    return ""


def _build_query(tables: Mapping[str, Table]) -> str:
    """Return a query of all rows, which a condition follows; it may read and do no more."""
    parts, place = ["(SELECT rowid AS _row, number AS _number FROM cells) AS _rows"], 0
    for table, columns in tables.items():
        selected = ["rowid AS _row"]
        for column in columns:
            selected.append(f"c{place} AS {quote_name(column)}")
            place += 1
        name, cells = quote_name(table), ", ".join(selected)
        parts.append(f"(SELECT {cells} FROM cells) AS {name} ON {name}._row = _rows._row")  # noqa: S608
    return f"SELECT _number FROM {' JOIN '.join(parts)}"  # noqa: S608 - quoted names


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
