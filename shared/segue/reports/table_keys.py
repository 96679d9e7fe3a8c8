"""Which rows a copy of a table has to have, and how the copy becomes equal to them.

A key says which result a row is of: file, version, and by job the fingerprint and the time when it
was finished. An export brings the keys of all files, and the rows of those whose results are
finished since the copy was made. A statement then merges them into the copy: in one step, each file
has the one row that its key names, and no file without a key has any.

The statements are GoogleSQL, https://cloud.google.com/bigquery/docs/reference/standard-sql.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from segue.reports.result_table import OF_FILE, OF_RESULT, TEXT, TIME, RowReader, Schema
from segue.reports.results import FileResults

if TYPE_CHECKING:
    import pyarrow as pa

FIRST, LAST = "TIMESTAMP '0001-01-01 00:00:00+00'", "TIMESTAMP '9999-12-31 00:00:00+00'"
FORBIDDEN = re.compile(r"\W", re.ASCII)


def clean_name(name: str) -> str:
    """Return a name that BigQuery allows for a column: letters, digits and underscores."""
    cleaned = FORBIDDEN.sub("_", name)
    return f"_{cleaned}" if cleaned[:1].isdigit() else cleaned


def quote_column(name: str) -> str:
    """Return the name of a column for statements; it may be a keyword."""
    return f"`{name}`"


class TableKeys:
    """The keys of the results of some jobs."""

    def __init__(self, references: Sequence[str]) -> None:
        namer = RowReader(references, clean_name)
        self._columns = {
            (reference, name): namer.name_column(reference, name)
            for reference in references
            for name in OF_RESULT
        }
        self.names = [*OF_FILE, *self._columns.values()]
        self.times = [c for (_, name), c in self._columns.items() if name == "finished_at"]

    @property
    def declared(self) -> dict[str, Schema]:
        """The JSON schema of each column's values, as ``ResultColumns`` has it."""
        return {name: TIME if name in self.times else TEXT for name in self.names}

    @property
    def arrow_schema(self) -> pa.Schema:
        """The types of the columns."""
        import pyarrow as pa

        time = pa.timestamp("us", "UTC")
        return pa.schema([(n, time if n in self.times else pa.string()) for n in self.names])

    def build(self, file: FileResults) -> dict[str, Any]:
        """Return the key of a file, from the ledger alone."""
        of_jobs = {
            column: getattr(file.results[reference], name)
            for (reference, name), column in self._columns.items()
            if reference in file.results
        }
        return {"uri": file.uri, "version": file.version, **of_jobs}

    def select(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the key of a row that was read; a result that cannot be read is not in it."""
        return {name: row[name] for name in self.names if name in row}

    def compare(self, one: str, other: str) -> str:
        """Return the condition that two rows are of the same results."""
        names = map(quote_column, self.names)
        return " AND ".join(f"{one}.{name} IS NOT DISTINCT FROM {other}.{name}" for name in names)


def is_due(file: FileResults, since: datetime | None) -> bool:
    """Whether any result of a file is finished at some time or later; None: at any."""
    times = [result.finished_at for result in file.results.values()]
    return since is None or any(time is None or time >= since for time in times)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeStatements:
    """The statements that bring a table up to date from tables of keys and rows.

    The names of the tables are quoted. With ``is_partial``, only files below the parameters
    ``@prefix`` and ``@folder`` are concerned.
    """

    table: str
    keys_table: str
    rows_table: str
    keys: TableKeys
    is_partial: bool

    @property
    def find_newest(self) -> str:
        """Return when the newest result in the table was finished."""
        times = [f"IFNULL(MAX(t.{quote_column(time)}), {FIRST})" for time in self.keys.times]
        return (
            f"-- Segue: newest\nSELECT GREATEST({', '.join(times)}) AS newest\n"
            f"FROM {self.table} AS t\nWHERE {self._is_concerned}"
        )

    @property
    def find_missing(self) -> str:
        """Count the keys that neither the table nor the rows have, and find their oldest time."""
        times = [f"IFNULL(k.{quote_column(time)}, {LAST})" for time in self.keys.times]
        return (
            "-- Segue: missing\n"
            f"SELECT COUNT(*) AS count, MIN(LEAST({', '.join(times)})) AS oldest\n"
            f"FROM {self.keys_table} AS k\n"
            f"LEFT JOIN {self.rows_table} AS r ON r.uri = k.uri AND {self.keys.compare('r', 'k')}\n"
            f"LEFT JOIN {self.table} AS t ON t.uri = k.uri AND {self.keys.compare('t', 'k')}\n"
            "WHERE r.uri IS NULL AND t.uri IS NULL"
        )

    @property
    def create(self) -> str:
        """Create the table from the rows."""
        return (
            f"-- Segue: create\nCREATE TABLE {self.table}\nCLUSTER BY uri\n"  # noqa: S608
            f"AS SELECT * FROM {self.rows_table}"
        )

    def merge(self, columns: Sequence[str], known: Sequence[str]) -> str:
        """Merge the rows, which have some columns, into the table, which may have others, too."""
        changed = ", ".join(
            f"{quote_column(name)} = {f's.{quote_column(name)}' if name in columns else 'NULL'}"
            for name in known
        )
        keys = ", ".join(
            f"k.{quote_column(n)} AS {quote_column(f'key_of_{n}')}" for n in self.keys.names
        )
        differs = " OR ".join(
            f"t.{quote_column(name)} IS DISTINCT FROM s.{quote_column(f'key_of_{name}')}"
            for name in self.keys.names
        )
        return (
            f"-- Segue: merge\nMERGE INTO {self.table} AS t\n"  # noqa: S608 - names are checked
            f"USING (\n  SELECT {keys}, r.*\n  FROM {self.keys_table} AS k\n"
            f"  LEFT JOIN {self.rows_table} AS r ON r.uri = k.uri\n) AS s\n"
            "ON t.uri = s.key_of_uri\n"
            f"WHEN MATCHED AND s.uri IS NOT NULL THEN\n  UPDATE SET {changed}\n"
            f"WHEN MATCHED AND ({differs}) THEN\n  DELETE\n"
            "WHEN NOT MATCHED BY TARGET AND s.uri IS NOT NULL THEN\n"
            f"  INSERT ({', '.join(map(quote_column, columns))})\n"
            f"  VALUES ({', '.join(f's.{quote_column(name)}' for name in columns)})\n"
            f"WHEN NOT MATCHED BY SOURCE AND {self._is_concerned} THEN\n  DELETE"
        )

    @property
    def _is_concerned(self) -> str:
        return "(t.uri = @prefix OR STARTS_WITH(t.uri, @folder))" if self.is_partial else "TRUE"
