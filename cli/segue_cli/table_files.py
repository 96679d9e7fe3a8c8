"""Writes tables of results to files, a batch at a time: JSON lines, CSV, Parquet and Arrow."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from segue.adapters.folder import O_TMPFILE_UNSUPPORTED
from segue.errors import ConfigurationError
from segue.reports.result_json import encode_result, to_json_type
from segue.reports.result_table import REMEDY, ArrowColumns, ResultColumns, TypeMismatch, drop_nulls
from segue_cli.views.output import build_write_error

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]
# A row group of Parquet ends with whichever comes first: its readers take one at a time, and the
# footer describes each.
GROUP_ROWS = 100_000
GROUP_BYTES = 32 * 2**20


class TableWriter(Protocol):
    """Writes the batches of one table. The file stays open."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch."""

    def close(self) -> None:
        """Write what ends the table, and what begins it if there was no batch."""

    def abandon(self) -> None:
        """Write nothing more: after an error, the table is incomplete, and must not look whole."""


class JsonLinesWriter:
    """One JSON object per row. A cell that a file has not is left out."""

    def __init__(self, file: BinaryIO, columns: ResultColumns) -> None:
        self._file, self._columns = file, columns

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch."""
        self._columns.learn(rows)
        for row in rows:
            cells = {name: row[name] for name in self._columns.names if name in row}
            self._file.write(f"{encode_result(cells)}\n".encode())

    def close(self) -> None:
        """Write nothing."""

    def abandon(self) -> None:
        """Write nothing."""


class _CsvLines:
    """Collects lines of CSV that end in a line feed.

    The module ``csv`` quotes a carriage return only if lines end in one.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line.removesuffix("\r\n") + "\n")


class CsvWriter:
    """A line of names, then one per row, in UTF-8.

    Lists, objects, numbers and truth values are JSON, text is text, and no value is an empty cell.
    """

    def __init__(self, file: BinaryIO, columns: ResultColumns) -> None:
        self._file, self._columns = file, columns
        self._has_names = False

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch."""
        text = _CsvLines()
        writer = csv.writer(text, lineterminator="\r\n")
        if not self._has_names:
            self._columns.learn(rows)
            writer.writerow(self._columns.names)
            self._has_names = True
        for row in rows:
            self._columns.check(row)
            writer.writerow([_format_cell(row.get(name)) for name in self._columns.names])
        self._file.write("".join(text.lines).encode())

    def close(self) -> None:
        """Write the names, if there was no row."""
        if not self._has_names:
            self.write([])

    def abandon(self) -> None:
        """Write nothing."""


class _Sink(io.RawIOBase):
    """Passes on what is written, until it is told to stop."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self.is_open = file, True

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data) if self.is_open else len(data)


class ArrowWriter:
    """Arrow's format for files, which Feather 2 is, too.

    If the types of a batch are wider than those of the batches before, what is written so far
    becomes a part, and the parts become one table at the end. Only a file that is read and written
    can be widened so, and no pipe.
    """

    def __init__(self, file: BinaryIO, columns: ResultColumns) -> None:
        self._file = file
        self._is_widened = file.seekable() and file.readable()
        self._arrow = ArrowColumns(columns, widens=self._is_widened)
        self._parts: list[BinaryIO] = []
        self._sink = _Sink(file)
        self._writer: Any = None
        self._schema: pa.Schema | None = None

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch."""
        try:
            batch = self._arrow.build(rows)
        except TypeMismatch as error:
            if self._is_widened:
                raise
            raise ConfigurationError(
                f"{error}; or name a file with --output, which is widened where that is possible"
            ) from error
        if self._schema is not None and batch.schema != self._schema:
            self._end_part()
        if self._writer is None:
            self._start(batch.schema)
        self._write(batch)

    def close(self) -> None:
        """Write the footer."""
        if self._writer is None:
            self.write([])
        if not self._parts:
            self._finish()
            return
        schema = self._schema
        self._end_part()
        self._start(schema)
        for part in self._parts:
            part.seek(0)
            for batch in self._read(part):
                self._write(_widen_batch(batch, schema))
            part.close()
        self._finish()

    def abandon(self) -> None:
        """Let Arrow write a footer, which it would do at a later time, to nowhere."""
        self._sink.is_open = False
        if self._writer is not None:
            self._writer.close()
        for part in self._parts:
            part.close()

    def _start(self, schema: Any) -> None:
        self._schema, self._sink = schema, _Sink(self._file)
        self._writer = self._open(schema)

    def _end_part(self) -> None:
        """Move what is written to a file without a name, in the same folder."""
        self._finish()
        part = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with the table
        self._parts.append(part)
        self._file.seek(0)
        shutil.copyfileobj(self._file, part)
        self._file.seek(0)
        self._file.truncate()

    @property
    def _folder(self) -> str | None:
        """The folder of the file, if it has a name; one without has a number."""
        name = self._file.name
        path = os.readlink(f"/proc/self/fd/{name}") if isinstance(name, int) else name
        return os.path.dirname(path)

    def _finish(self) -> None:
        self._writer.close()
        self._writer = None

    def _open(self, schema: pa.Schema) -> Any:
        import pyarrow as pa

        return pa.ipc.new_file(self._sink, schema)

    def _write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def _read(self, part: BinaryIO) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        reader = pa.ipc.open_file(part)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


class ParquetWriter(ArrowWriter):
    """Parquet, compressed with Zstandard, in row groups that are worth a reader's while."""

    def __init__(self, file: BinaryIO, columns: ResultColumns) -> None:
        super().__init__(file, columns)
        self._waiting: list[pa.RecordBatch] = []

    def abandon(self) -> None:
        """Let Arrow write a footer, which it would do at a later time, to nowhere."""
        self._waiting = []
        super().abandon()

    def _open(self, schema: pa.Schema) -> Any:
        from pyarrow import parquet

        return parquet.ParquetWriter(self._sink, schema, compression="zstd", version="2.6")

    def _write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        rows = sum(one.num_rows for one in self._waiting)
        if rows >= GROUP_ROWS or sum(one.nbytes for one in self._waiting) >= GROUP_BYTES:
            self._flush()

    def _finish(self) -> None:
        self._flush()
        super()._finish()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._waiting = []
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def _read(self, part: BinaryIO) -> Iterator[pa.RecordBatch]:
        from pyarrow import parquet

        file = parquet.ParquetFile(part)
        for number in range(file.num_row_groups):
            yield from file.read_row_group(number).to_batches()


class LoadWriter(ParquetWriter):
    """Parquet for BigQuery, without columns of nulls alone, whose type is not known."""

    def _open(self, schema: pa.Schema) -> Any:
        return super()._open(drop_nulls(schema))

    def _write(self, batch: pa.RecordBatch) -> None:
        super()._write(batch.select(drop_nulls(batch.schema).names))


def _widen_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with wider types, and nulls in the columns that it has not."""
    import pyarrow as pa

    arrays = []
    for field in schema:
        if batch.schema.get_field_index(field.name) < 0:
            arrays.append(pa.nulls(batch.num_rows, field.type))
            continue
        try:
            arrays.append(batch.column(field.name).cast(field.type))
        except pa.ArrowInvalid as error:
            raise ConfigurationError(
                f"{field.name!r} has integers beyond 2^53, and fractions in other files, which no "
                f"type of a column holds without loss ({error}); {REMEDY}"
            ) from error
    return pa.record_batch(arrays, schema=schema)


WRITERS: Mapping[str, type[JsonLinesWriter | CsvWriter | ArrowWriter]] = {
    "parquet": ParquetWriter,
    "csv": CsvWriter,
    "jsonl": JsonLinesWriter,
    "arrow": ArrowWriter,
}
BINARY = frozenset({"parquet", "arrow"})


def find_format(path: str | None, given: str | None) -> str:
    """Return the format that is given, else that of the file's name, else JSON lines."""
    if given is not None or path is None:
        return given or "jsonl"
    extension = path.rpartition(".")[2].lower()
    if extension not in WRITERS:
        raise ConfigurationError(
            f"the format of {path!r} is unknown; end it in .{', .'.join(WRITERS)}, or use --format"
        )
    return extension


@contextlib.contextmanager
def open_output(path: str | None) -> Iterator[BinaryIO]:
    """Open a file, or standard output if there is none, to write it.

    The file is there once it is complete and on the disk. Until then it has no name, so a killed
    process leaves nothing; where a file system has no such files, it has another name, and an error
    removes it. A pipe or a device is written as it is.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = os.path.realpath(path)
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, "wb") as file:
                yield file
            return
        with _open_part(target) as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise build_write_error(path, error) from error


@contextlib.contextmanager
def _open_part(target: str) -> Iterator[BinaryIO]:
    """Open a file that takes the place of another once it is complete and on the disk."""
    folder, name = os.path.dirname(target), f"{target}.{os.getpid()}.part"
    handle = _open_nameless(folder)
    try:
        with open(name if handle is None else handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if handle is not None:
                with suppress(FileNotFoundError):
                    os.unlink(name)
                # With src_dir_fd Python calls linkat, which follows the link under /proc.
                os.link(f"/proc/self/fd/{handle}", name, src_dir_fd=handle, follow_symlinks=True)
        os.replace(name, target)
    finally:
        with suppress(OSError):
            os.unlink(name)
    above = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def _open_nameless(folder: str) -> int | None:
    """Open a file without a name; None if the file system has no such files."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except OSError as error:
        if error.errno not in O_TMPFILE_UNSUPPORTED:
            raise
    return None


def _format_cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case float() if not math.isfinite(value):
            return str(value)  # nan, inf, -inf: readers of CSV know them
        case bool() | int() | float() | list() | dict():
            return encode_result(value)
    plain = to_json_type(value)
    return plain if isinstance(plain, str) else encode_result(plain)
