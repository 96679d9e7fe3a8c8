"""Brings a table of BigQuery up to date with the current results of jobs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from segue.adapters.bigquery import BigQueryColumn, BigQueryTable, ParquetFiles
from segue.errors import ConfigurationError
from segue.model.ledger import Ledger, Query, find_records
from segue.reports.result_table import ResultColumns, split_batches
from segue.reports.results import FileResults
from segue.reports.table_keys import MergeStatements, TableKeys, is_due
from segue_cli.export_counts import ExportCounts
from segue_cli.table_files import LoadWriter

# A result is recorded a while after it is finished. What is later than this is found by its key.
SLACK = timedelta(hours=1)
KEYS_PER_TABLE = 10_000
# What the type of a column may become without a word: all integers are fractions.
WIDER = frozenset({("INTEGER", "FLOAT")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The Parquet files of one look at the ledger."""

    keys: ParquetFiles  # of all files that have a result
    rows: ParquetFiles  # of those that are due
    remove: Callable[[], None] = lambda: None  # once they are loaded


class TableUpdate:
    """One update of a table. ``prefix`` is that of the files' URIs that it concerns; "" all."""

    def __init__(self, table: BigQueryTable, references: Sequence[str], prefix: str) -> None:
        self.keys = TableKeys(references)
        self._table, self._prefix = table, prefix
        token = secrets.token_hex(6)
        self._keys_name, self._rows_name = f"segue_keys_{token}", f"segue_rows_{token}"
        self._statements = MergeStatements(
            table=table.quote(),
            keys_table=table.quote(self._keys_name),
            rows_table=table.quote(self._rows_name),
            keys=self.keys,
            is_partial=bool(prefix),
        )
        folder = prefix if prefix.endswith("/") else f"{prefix}/"
        self._parameters = {"prefix": prefix, "folder": folder} if prefix else {}

    def find_since(self) -> datetime | None:
        """Return from when on results are due; None: all, as there is no such table yet.

        Refuses a table that is not of these jobs: its rows would be removed.
        """
        columns = self._table.find_columns()
        if not columns:
            return None
        if lacking := {*self.keys.names} - {field.name for field in columns}:
            raise ConfigurationError(
                f"{self._table.url} has no column {min(lacking)!r}, so it is not a table of "
                "these jobs; name another table, one for each choice of jobs, or remove this one"
            )
        (found,) = self._table.query(self._statements.find_newest, **self._parameters)
        newest: datetime = found["newest"]
        return None if newest.year == 1 else newest - SLACK

    def check_ledger(self, ledger: Ledger) -> None:
        """Refuse to remove all rows: a wrong ledger looks like one without files."""
        if next(find_records(ledger, Query(prefix=self._prefix)), None) is None:
            raise ConfigurationError(
                f"the ledger has no such files, and {self._table.url} has rows of some; check "
                "--ledger and --prefix, or remove the rows by a statement of BigQuery"
            )

    def run(self, since: datetime | None, stage: Callable[[datetime | None], Staged]) -> None:
        """Stage what is due, and merge it.

        If the ledger has current results that are older and not in the table, as after a rollback,
        it stages once more, from the oldest of them on.
        """
        try:
            self._load(stage(since))
            if since is not None and (oldest := self._find_missing()) is not None:
                self._load(stage(min(oldest, since)))
            self._merge()
        finally:
            self._table.drop(self._keys_name, self._rows_name)

    def _load(self, staged: Staged) -> None:
        try:
            self._table.load(self._keys_name, staged.keys)
            self._table.load(self._rows_name, staged.rows)
        finally:
            staged.remove()

    def _find_missing(self) -> datetime | None:
        (found,) = self._table.query(self._statements.find_missing)
        oldest: datetime = found["oldest"]
        return oldest if found["count"] else None

    def _merge(self) -> None:
        rows = self._table.find_columns(self._rows_name) or []
        before = self._table.find_columns()
        if before is None:
            self._table.query(self._statements.create)
            return
        known = {field.name: field for field in before}
        for field in rows:
            if field.name in known:
                _check_type(self._table.url, known[field.name], field)
        added = [field for field in rows if field.name not in known]
        self._check_columns({*known}, {field.name for field in rows})
        if added:
            self._table.add_columns(added)
        names = [field.name for field in rows]
        statement = self._statements.merge(names, [*known, *(field.name for field in added)])
        self._table.query(statement, **self._parameters)

    def _check_columns(self, known: set[str], found: set[str]) -> None:
        """Refuse the table of another job, whose values would become null."""
        keys = {*self.keys.names}
        if known - keys and found - keys and known & found <= keys:
            raise ConfigurationError(
                f"{self._table.url} has none of the columns of these results, such as "
                f"{min(found - keys)!r}, so it is a table of another job; name another table, "
                "or remove this one"
            )


def _check_type(url: str, known: BigQueryColumn, found: BigQueryColumn) -> None:
    is_same = (known.kind, known.is_repeated) == (found.kind, found.is_repeated)
    is_wider = (found.kind, known.kind) in WIDER and known.is_repeated == found.is_repeated
    if not is_same and not is_wider:
        raise ConfigurationError(
            f"{url}: the column {found.name!r} is {_describe(known)}, and the results have "
            f"{_describe(found)}; name another table, or remove this one"
        )


def _describe(column: BigQueryColumn) -> str:
    return f"ARRAY of {column.kind}" if column.is_repeated else column.kind


class KeyWriter:
    """Writes keys as Parquet."""

    def __init__(self, path: str, keys: TableKeys) -> None:
        from pyarrow import parquet

        self._schema = keys.arrow_schema
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[dict[str, Any]] = []

    def add(self, key: dict[str, Any]) -> None:
        """Add a key."""
        self._waiting.append(key)
        if len(self._waiting) >= KEYS_PER_TABLE:
            self._flush()

    def close(self) -> None:
        """Write the last keys, and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, self._schema))
            self._waiting = []


def select_due(
    files: Iterable[FileResults],
    since: datetime | None,
    pass_over: Callable[[FileResults], None],
) -> Iterator[FileResults]:
    """Yield the files with a result that is due, and pass over those with none."""
    for file in files:
        if is_due(file, since):
            yield file
        else:
            pass_over(file)


def stage_files(
    files: Iterable[FileResults],
    since: datetime | None,
    folder: str,
    counts: ExportCounts,
    columns: ResultColumns,
    keys: TableKeys,
) -> Staged:
    """Write the keys of all files, and the rows of those that are due, to a folder."""
    keys_path, rows_path = f"{folder}/keys.parquet", f"{folder}/rows.parquet"
    key_writer = KeyWriter(keys_path, keys)

    def pass_over(file: FileResults) -> None:
        if file.results:
            key_writer.add(keys.build(file))
            counts.pass_over(file)
        else:
            counts.count([file])

    with open(rows_path, "w+b") as file:
        writer = LoadWriter(file, columns)
        try:
            for batch in split_batches(counts.read(select_due(files, since, pass_over))):
                writer.write(batch)
                for row in batch:
                    key_writer.add(keys.select(row))
            writer.close()
        except BaseException:
            writer.abandon()
            raise
        finally:
            key_writer.close()
    return Staged(
        keys=ParquetFiles(path=keys_path),
        rows=ParquetFiles(path=rows_path),
    )
