"""``application/vnd.apache.parquet``: rows and columns."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from segue.codec.data_frame import build_frame_table, is_frame
from segue.codec.encoded import Encoded, describe, drop_addresses
from segue.errors import BadOutput, CorruptMedia
from segue.model.media_file import is_unicode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import pyarrow as pa


class ParquetCodec:
    """A table: of pyarrow, pandas, polars or others; or a list of flat dicts, one per row.

    Keys that a dict lacks are null. Decoding returns a pyarrow.Table. The columns of a list are in
    the order in which their names first appear, and have the type that all their values share.
    """

    extension = "parquet"

    def encode(self, value: object) -> Encoded:
        """Write a Parquet file, compressed with Zstandard."""
        import pyarrow as pa
        from pyarrow import parquet

        table = value if isinstance(value, pa.Table) else _build_table(value)
        _check_names(table.column_names)
        sink = pa.BufferOutputStream()
        try:
            parquet.write_table(table, sink, compression="zstd", version="2.6")
        except pa.ArrowMemoryError:  # an ArrowException, too
            raise
        except pa.ArrowException as error:
            raise BadOutput(
                f"a table with the columns {table.schema.names} does not fit into Parquet: {error}"
            ) from error
        data = sink.getvalue().to_pybytes()
        return Encoded(data, self.decode(data))

    def decode(self, data: bytes) -> pa.Table:
        """Read a table."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return parquet.read_table(pa.BufferReader(data), use_threads=False)
        except pa.ArrowMemoryError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise CorruptMedia(
                f"{describe(data)} is not application/vnd.apache.parquet: {error}"
            ) from error


def _check_names(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BadOutput(
            f"more than one column is named {twice[0]!r}, and nobody could read them: rename all "
            "but one"
        )


def _build_table(rows: object) -> pa.Table:
    import pyarrow as pa

    if is_frame(rows):
        return build_frame_table(rows)
    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
        raise BadOutput(
            f"the job returned {describe(rows)}; application/vnd.apache.parquet holds a list of "
            "dicts, a DataFrame or a pyarrow.Table; if there are no rows, return a table with a "
            "schema"
        )
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        if not isinstance(name, str):
            raise BadOutput(f"a column is named {describe(name)}; names are strings: use str()")
        if not is_unicode(name):
            raise BadOutput(f"a column is named {name!r}, which is not valid Unicode: decode it")
        values = [_check_cell(row.get(name), name, number) for number, row in enumerate(rows)]
        try:
            columns[name] = pa.array(values)
        except pa.ArrowMemoryError:
            raise
        except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
            reason = drop_addresses(str(error))
            raise BadOutput(
                f"column {name!r} mixes types or does not fit into one: {reason}; give all its "
                "values one type"
            ) from error
    return pa.table(columns)


def _check_cell(value: object, name: str, number: int) -> Any:
    numpy = sys.modules.get("numpy")  # a numpy value cannot exist unless it was imported
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
    if isinstance(value, dict | list | tuple | set) or hasattr(value, "__array__"):
        raise BadOutput(
            f"row {number}, column {name!r} is {describe(value)}; rows are flat: give it columns "
            "of its own, or return a pyarrow.Table"
        )
    return value
