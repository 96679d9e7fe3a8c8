"""Shows the values of results to people: fields as tables, and curves as sparklines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segue import text
from segue.codec.table_times import limit_times
from segue.reports.value_text import (
    SPARK_COLUMNS,
    draw_sparkline,
    format_numbers,
    format_value,
    is_number,
    iterate_fields,
)
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue.media.audio import Audio

JSON = "application/json"
PICTURES = ("image/png", "image/jpeg")
BESIDE = 3  # rows that are shown side by side, if they have more columns than WIDE
WIDE = 6
LEVEL_FLOOR_DB = -60.0


def describe_artifact(content_type: str, data: bytes) -> Any:
    """Return the value of a JSON artifact, or a summary of any other, such as its length."""
    from segue.codec import decode

    value = decode(content_type, data)
    return value if content_type == JSON else summarize(content_type, len(data), value)


def summarize(content_type: str, size_bytes: int, value: Any) -> dict[str, Any]:
    """Return what is to be said of a value that is not JSON."""
    from segue.media.audio import Audio

    summary: dict[str, Any] = {"content_type": content_type, "size_bytes": size_bytes}
    if isinstance(value, bytes):
        return summary
    if content_type in PICTURES:
        height, width = value.shape[:2]
        return {**summary, "width": width, "height": height}
    if isinstance(value, Audio):
        peak = float(abs(value.y).max()) if value.y.size else 0.0
        return {
            **summary,
            "duration_s": round(value.duration_s, 3),
            "sample_rate_hz": value.sr,
            "channels": value.channels,
            "peak": round(peak, 4),
        }
    if isinstance(value, dict):
        arrays = {n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in value.items()}
        return {**summary, "arrays": arrays}
    return {**summary, "rows": value.num_rows, "columns": list(value.column_names)}


def format_summary(found: dict[str, Any]) -> Iterator[str]:
    """Format the summary of an artifact that is not JSON."""
    what = f"{found['content_type']}, {text.format_size(found['size_bytes'])}"
    if "duration_s" in found:
        channels = text.format_count(found["channels"], "channel")
        what += f": {found['duration_s']:g} s, {found['sample_rate_hz']:,} Hz, {channels}"
        what += f", peak {found['peak']:g}"
    elif "width" in found:
        what += f": {found['width']} x {found['height']} pixels"
    elif "rows" in found:
        what += f": {text.format_count(found['rows'], 'row')} of {', '.join(found['columns'])}"
    yield what
    for name, array in found.get("arrays", {}).items():
        yield f"  {name}: {array['dtype']}, {' x '.join(map(str, array['shape'])) or 'one value'}"


def render_value(
    content_type: str, size_bytes: int, value: Any, rows: int
) -> Iterator[RenderableType]:
    """Render a value: the fields of JSON, the rows of a table, curves of sound and arrays."""
    if content_type == JSON:
        yield from _render_json(value, rows)
        return
    yield from format_summary(summarize(content_type, size_bytes, value))
    if isinstance(value, dict):
        for name, array in value.items():
            if array.ndim == 1 and array.dtype.kind in "iuf" and array.size:
                yield f"  {name}: {format_numbers(array.tolist())}"
    elif hasattr(value, "y"):
        if value.y.size:
            yield f"level, {LEVEL_FLOOR_DB:g} to 0 dBFS: {_draw_level(value)}"
    elif hasattr(value, "num_rows"):
        yield from _render_rows(limit_times(value.slice(0, rows)).to_pylist(), value.num_rows, rows)


def _render_json(value: Any, rows: int) -> Iterator[RenderableType]:
    fields = build_table("field", "value")
    lists: list[tuple[str, list[Any]]] = []
    for name, field in iterate_fields(value):
        if _is_table(field):
            lists.append((name, field))
            fields.add_row(name, text.format_count(len(field), "row"))
        else:
            fields.add_row(name, format_value(field))
    yield fields
    for name, found in lists:
        yield ""
        yield name
        yield from _render_rows(found[:rows], len(found), rows)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _render_rows(
    shown: Sequence[Mapping[str, Any]], total: int, rows: int
) -> Iterator[RenderableType]:
    columns = list(dict.fromkeys(key for row in shown for key in row))
    if len(shown) <= BESIDE and len(columns) > WIDE:  # such as the streams of a file
        table = build_table("field", *(f"{n}." for n in range(1, len(shown) + 1)))
        for column in columns:
            cells = (format_value(row[column]) if column in row else "" for row in shown)
            table.add_row(column, *cells)
        yield table
        if total > rows:
            yield _format_rest(total, rows)
        return
    numeric = {c for c in columns if all(is_number(row.get(c)) for row in shown)}
    table = build_table(*(f">{c}" if c in numeric else c for c in columns))
    for row in shown:
        table.add_row(*(format_value(row[c]) if c in row else "" for c in columns))
    yield table
    if total > rows:
        yield _format_rest(total, rows)


def _format_rest(total: int, rows: int) -> str:
    return f"… {text.format_count(total - rows, 'more row')}; --rows {total} shows them all"


def _draw_level(audio: Audio) -> str:
    import numpy as np

    blocks = np.array_split(audio.mono().y.astype(np.float64), SPARK_COLUMNS)
    power = [float(np.mean(block**2)) if block.size else 0.0 for block in blocks]
    levels = [10 * math.log10(p) if p > 0 else LEVEL_FLOOR_DB for p in power]
    return draw_sparkline(levels, low=LEVEL_FLOOR_DB, high=0.0)
