"""Tables that Python's own types can hold: how large they are, and their times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.errors import CorruptMedia

if TYPE_CHECKING:
    import pyarrow as pa


def count_cells(data: bytes) -> int:
    """Return how many values a table in Parquet has, which a few bytes may hold any number of.

    Raises
    ------
    CorruptMedia
        If it is no Parquet.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.read_metadata(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:  # the latter for a damaged end
        raise CorruptMedia(f"the table cannot be read ({error})") from error
    return int(found.num_rows * found.num_columns)


def limit_times(table: pa.Table) -> pa.Table:
    """Return a table whose times and durations end at microseconds, as those of Python do.

    Of nanoseconds, pyarrow makes values of pandas, and an error where that is not installed.
    """
    import pyarrow as pa

    columns = [(field.name, _limit_times(field.type)) for field in table.schema]
    return table.cast(pa.schema(columns), safe=False)


def _limit_times(kind: pa.DataType) -> pa.DataType:
    """Return a type with microseconds in place of nanoseconds."""
    import pyarrow as pa

    types = pa.types
    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if types.is_time64(kind):
        return pa.time64("us")
    if types.is_list(kind):
        return pa.list_(_limit_times(kind.value_type))
    if types.is_large_list(kind):
        return pa.large_list(_limit_times(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(field.name, _limit_times(field.type)) for field in kind])
    return kind
