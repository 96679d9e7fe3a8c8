"""Writes tables of results to files, a batch at a time: JSON lines, CSV, Parquet and Arrow."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from segue.errors import ConfigurationError
from segue.printable import encode_json
from segue.reports.result_table import ArrowColumns, ResultColumns
from segue_cli.views.output import build_write_error

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]


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
            self._file.write(f"{encode_json(cells)}\n".encode())

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
    """Arrow's format for files, which Feather 2 is, too."""

    def __init__(self, file: BinaryIO, columns: ResultColumns) -> None:
        self._sink, self._arrow = _Sink(file), ArrowColumns(columns)
        self._writer: Any = None

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch."""
        batch = self._arrow.build(rows)
        if self._writer is None:
            self._writer = self._open(batch.schema)
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Write the footer."""
        if self._writer is None:
            self.write([])
        self._writer.close()

    def abandon(self) -> None:
        """Let Arrow write a footer, which it would do at a later time, to nowhere."""
        self._sink.is_open = False
        if self._writer is not None:
            self._writer.close()

    def _open(self, schema: pa.Schema) -> Any:
        import pyarrow as pa

        return pa.ipc.new_file(self._sink, schema)


class ParquetWriter(ArrowWriter):
    """Parquet, compressed with Zstandard; each batch is a row group."""

    def _open(self, schema: pa.Schema) -> Any:
        from pyarrow import parquet

        return parquet.ParquetWriter(self._sink, schema, compression="zstd", version="2.6")


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

    The file is there once it is complete: until then it has another name, and an error removes it.
    A pipe or a device is written as it is.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = os.path.realpath(path)
    is_special = os.path.exists(target) and not os.path.isfile(target)
    name = target if is_special else f"{target}.{os.getpid()}.part"
    try:
        with open(name, "wb") as file:
            yield file
        if not is_special:
            os.replace(name, target)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise build_write_error(path, error) from error
    finally:
        if not is_special:
            with suppress(OSError):
                os.unlink(name)


def _format_cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else encode_json(value)
