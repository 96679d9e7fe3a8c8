"""Data frames of other packages, such as pandas and polars, as Arrow tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from segue.codec.encoded import describe, drop_addresses
from segue.errors import BadOutput

if TYPE_CHECKING:
    from typing import Any

    import pyarrow as pa

# What such classes have: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
PROTOCOLS = ("to_arrow", "__arrow_c_stream__", "__arrow_c_array__")


def is_frame(value: object) -> bool:
    """Return whether a value can be read as an Arrow table, as far as its class says."""
    return any(hasattr(type(value), name) for name in PROTOCOLS)


def build_frame_table(frame: Any) -> pa.Table:
    """Return a data frame as a table whose bytes depend on its columns alone.

    What a package adds about itself is left out, as are types that only it knows, and the seams
    between the parts of a frame that was put together. A pandas index becomes columns of its names.

    Raises
    ------
    BadOutput
        If it is no table, mixes types within a column, or has an index that counts no rows and has
        no name.
    """
    import pyarrow as pa

    try:
        table = _convert(frame).combine_chunks()
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise BadOutput(
            f"the job returned {type(frame).__name__}, which is no table with one type per "
            f"column: {drop_addresses(str(error))}; return a DataFrame with text as names and one "
            "type in each column"
        ) from error
    return pa.Table.from_arrays([_strip(c) for c in table.columns], names=table.column_names)


def _convert(frame: Any) -> pa.Table:
    import pyarrow as pa

    pandas = sys.modules.get("pandas")  # a DataFrame cannot exist unless it was imported
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return pa.Table.from_pandas(_move_index(frame), preserve_index=False, nthreads=1)
    _check_objects(frame)
    table = frame.to_arrow() if hasattr(type(frame), "to_arrow") else frame
    return table if isinstance(table, pa.Table) else pa.table(table)


def _check_objects(frame: Any) -> None:
    """Raise an error if a frame of polars holds objects of Python: it writes their addresses."""
    polars = sys.modules.get("polars")
    if polars is None or not isinstance(frame, polars.DataFrame):
        return
    for name, kind in frame.schema.items():
        if kind == polars.Object:
            raise BadOutput(
                f"column {name!r} of the DataFrame holds objects of Python; give it a type of "
                "polars"
            )


def _strip(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without a type that only the package knows, such as a period of pandas."""
    import pyarrow as pa

    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    storage = column.type.storage_type
    return pa.chunked_array([chunk.storage for chunk in column.chunks], storage)


def _move_index(frame: Any) -> Any:
    """Return a pandas.DataFrame with its index among the columns, unless it only counts rows."""
    names = list(frame.index.names)
    is_named = None not in names
    for name in (*names, *frame.columns) if is_named else frame.columns:
        if not isinstance(name, str):
            raise BadOutput(
                f"a column is named {describe(name)}; names are strings: set frame.columns, or "
                "for an index frame.index.names"
            )
    if is_named:
        return frame.reset_index()  # raises ValueError if a column has that name
    if len(names) > 1 or not _counts_rows(frame):
        raise BadOutput(
            f"the index of the DataFrame is {describe(frame.index)}, without a name, and Parquet "
            "has no index: leave it out with reset_index(drop=True), or keep it as a column with "
            "rename_axis('name')"
        )
    return frame


def _counts_rows(frame: Any) -> bool:
    """Return whether an index is 0, 1, 2 and so on, as of a frame that was given none."""
    index = frame.index
    is_range = type(index).__name__ == "RangeIndex"
    return len(index) == 0 or (is_range and index.start == 0 and index.step == 1)
