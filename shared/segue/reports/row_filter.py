"""Selects rows of a table of results by a condition on its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from segue.adapters.sqlite_filter import SqliteFilter, is_storable, quote_name
from segue.errors import ConfigurationError
from segue.reports.result_json import encode_result, to_json_type
from segue.reports.result_table import ResultColumns, RowReader

QUOTED = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)"|--[^\n]*|/\*.*?\*/""", re.DOTALL)
Row = Mapping[str, Any]


class RowFilter:
    """A condition on the columns of some jobs' results, in SQLite's language.

    ``tempo_bpm`` or ``beats.tempo_bpm`` is a field of the job beats, ``"pitch.summary".voiced_s``
    one of an output, and ``uri`` and ``version`` are those of the file.
    """

    def __init__(self, condition: str, references: Sequence[str], columns: ResultColumns) -> None:
        self._condition = condition
        self._filter = SqliteFilter(condition)
        self._columns = columns
        self._namer = RowReader(references)
        self._tables = ("files", *references)
        self._known: dict[str, tuple[str, str]] = {}  # table and field, by column

    def select(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows that meet the condition, in their order.

        Raises
        ------
        ConfigurationError
            If the condition is wrong, or names a column that no row so far has.
        """
        for column in dict.fromkeys(
            [*self._columns.names, *(name for row in rows for name in row)]
        ):
            self._known.setdefault(column, self._namer.split_column(column))
        self._check_quoted()
        tables: dict[str, dict[str, list[Any]]] = {name: {} for name in self._tables}
        mentioned = self._condition.lower()
        for column, (table, field) in self._known.items():
            if field.lower() in mentioned:
                tables[table][field] = [_convert(row.get(column)) for row in rows]
        try:
            found = self._filter.select(tables, len(rows))
        except ConfigurationError as error:
            raise ConfigurationError(f"--where: {error}; {self._describe_columns()}") from error
        return [rows[number] for number in found]

    def _check_quoted(self) -> None:
        """Refuse an unknown name in double quotes, which SQLite would take for a text."""
        names = {name for pair in self._known.values() for name in pair}
        for found in QUOTED.finditer(self._condition):
            if found[1] is not None and found[1].replace('""', '"') not in names:
                raise ConfigurationError(
                    f"--where: {found[0]} is no job and no column; write a text in single quotes; "
                    f"{self._describe_columns()}"
                )

    def _describe_columns(self) -> str:
        names = [
            f"{table if table.isidentifier() else quote_name(table)}.{field}"
            for table, field in self._known.values()
        ]
        return f"the columns are {', '.join(names)}"


def _convert(value: Any) -> Any:
    """Return a value as SQLite takes it."""
    if value is None or isinstance(value, float | bool):
        return value
    if isinstance(value, int):
        return value if is_storable(value) else float(value)
    plain = value if isinstance(value, str | list | dict) else to_json_type(value)
    text = plain if isinstance(plain, str) else encode_result(plain)
    return text.encode(errors="replace").decode()
