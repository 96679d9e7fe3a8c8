"""Formats the values of results for people, each in a line: curves are drawn as blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segue import text
from segue.printable import encode_json
from segue.reports.result_json import to_json_type

BLOCKS = "▁▂▃▄▅▆▇█"
SPARK_COLUMNS = 32
LISTED = 6  # numbers of a list that are shown one by one


def draw_sparkline(
    values: Sequence[float | None],
    columns: int = SPARK_COLUMNS,
    low: float | None = None,
    high: float | None = None,
) -> str:
    """Draw numbers as a curve of blocks, each the mean of its share; a gap is where none is.

    It goes from ``low`` to ``high``; by default from the lowest number to the highest.
    """
    columns = min(columns, len(values))
    shares = []
    for column in range(columns):
        begin, end = (len(values) * at // columns for at in (column, column + 1))
        share = [v for v in values[begin:end] if v is not None and math.isfinite(v)]
        shares.append(math.fsum(v / len(share) for v in share) if share else None)
    means = [mean for mean in shares if mean is not None]
    if not means:
        return " " * columns
    low = min(means) if low is None else low
    high = max(means) if high is None else high
    steps = len(BLOCKS) - 1
    span = high / 2 - low / 2  # the difference of two numbers may be no number
    return "".join(
        " " if mean is None else BLOCKS[_choose(mean, low, span, steps)] for mean in shares
    )


def _choose(value: float, low: float, span: float, steps: int) -> int:
    """Return which of the blocks a value has; ``span`` is half of the range."""
    share = (value / 2 - low / 2) / span if span > 0 else 0.0
    return round(min(max(share, 0.0), 1.0) * steps)


def iterate_fields(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of an object, and of the objects in it, with names such as a.b."""
    if isinstance(value, Mapping) and value:
        for key, field in value.items():
            yield from iterate_fields(field, f"{name}.{key}" if name else str(key))
    else:
        yield name or "(value)", value


def is_number(value: Any) -> bool:
    """Whether a value is a number, or null in the place of one."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _encode(value: Any) -> str:
    is_plain = value is None or isinstance(value, bool | int | float | list | Mapping)
    plain = value if is_plain else to_json_type(value)
    return plain if isinstance(plain, str) else encode_json(plain, default=to_json_type)


def format_value(value: Any) -> str:
    """Format a value in one line; a long list of numbers is its range and a curve."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or len(value) <= LISTED:
        return _encode(value)
    if all(map(is_number, value)):
        return format_numbers(value)
    if all(isinstance(v, str) for v in value):
        return ", ".join(value)
    shapes = {len(row) if isinstance(row, list) else None for row in value}
    if len(shapes) == 1 and None not in shapes:
        return f"{len(value):,} lists of {shapes.pop():,}"
    return text.format_count(len(value), "value")


def format_numbers(values: Sequence[float | None]) -> str:
    """Format a list of numbers as its length, its range and a curve."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    told = text.format_count(len(values), "value")
    if not known:
        return f"{told}, none of them a number"
    return f"{told}, {min(known):g} to {max(known):g} {draw_sparkline(values)}"
