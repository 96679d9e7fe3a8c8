"""Writes rows as tables of Markdown, between markers of a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from truth.rows import Row

BEGIN = "<!-- make truth: {} -->"
END = "<!-- end -->"
NONE = "-"

Column = tuple[str, Callable[[Row], str]]


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """Return a number as the table shows it."""
    if value is None:
        return NONE
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """Return a share as a percentage with two significant digits."""
    return NONE if value is None else f"{100 * value:.2g}"


def ratio(value: float | None, row: Row) -> str:
    """Return how many of the files."""
    return NONE if value is None else f"{value:.0f} of {row['files']}"


def name_set(row: Row) -> str:
    """Return the set, with the split where there are two."""
    return row["set"] if row["split"] == "development" else f"{row['set']} (test)"


BEATS: tuple[Column, ...] = (
    ("set", name_set),
    ("system", lambda row: row["system"]),
    ("F", lambda row: number(row["f"], 3)),
    ("CMLt", lambda row: number(row["cmlt"], 3)),
    ("AMLt", lambda row: number(row["amlt"], 3)),
    ("offset, ms", lambda row: number(row["offset_ms"], 1, sign=True)),
    ("tempo right", lambda row: ratio(row["tempo_right"], row)),
    ("error, %", lambda row: percent(row["tempo_error_median"])),
    ("worst, %", lambda row: percent(row["tempo_error_worst"])),
    ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
)
DOWNBEATS: tuple[Column, ...] = (
    ("set", name_set),
    ("system", lambda row: row["system"]),
    ("F", lambda row: number(row["f"], 3)),
    ("metre right", lambda row: ratio(row["metre_right"], row)),
    ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
)
SONGS: tuple[Column, ...] = (
    ("system", lambda row: row["system"]),
    ("integrated, LU", lambda row: number(row["integrated_lufs_apart"], 2)),
    ("range, LU", lambda row: number(row["range_lu_apart"], 2)),
    ("true peak, dB", lambda row: number(row["true_peak_dbtp_apart"], 2)),
    ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
)


def draw(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    rows = [f"| {' | '.join(row)} |" for row in (header, *lines)]
    return "\n".join([rows[0], "|" + "-|" * len(header), *rows[1:]])


def draw_rows(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return a table with a line for each row, equal sets together."""
    order = list(dict.fromkeys((row.get("set"), row.get("split")) for row in rows))
    rows = sorted(rows, key=lambda row: order.index((row.get("set"), row.get("split"))))
    lines = [[show(row) for _, show in columns] for row in rows]
    return draw([title for title, _ in columns], lines)


def draw_by_system(
    rows: Sequence[Row], key: str, titles: Sequence[str], show: Callable[[Row], str]
) -> str:
    """Return a table with a line for each value of a key, and a column for each system.

    The first columns have the titles, and the fields of rows that are named so.
    """
    systems = list(dict.fromkeys(row["system"] for row in rows))
    lines: dict[str, list[str]] = {}
    for row in rows:
        lines.setdefault(row[key], [str(row[title]) for title in titles]).append(show(row))
    return draw([*titles, *systems], list(lines.values()))


def show_loudness(row: Row) -> str:
    """Return what a meter shows; bold if the tolerance does not allow it."""
    text = number(row["value"], 2)
    return f"**{text}**" if row["right"] is False else text


def draw_all(rows: Sequence[Row]) -> dict[str, str]:
    """Return the tables by the names of their markers; those without rows are left out."""
    beats = [row for row in rows if row["feature"] == "beats"]
    loudness = [row for row in rows if row["feature"] == "loudness"]
    tables = {
        "beats": (
            [row for row in beats if "f" in row],
            lambda rows: draw_rows(BEATS, rows),
        ),
        "without-tempo": (
            [row for row in beats if "sound" in row],
            lambda rows: draw_by_system(
                rows,
                "sound",
                ["sound"],
                lambda row: str(row["beats"] if not row["error"] else "error"),
            ),
        ),
        "downbeats": (
            [row for row in rows if row["feature"] == "downbeats"],
            lambda rows: draw_rows(DOWNBEATS, rows),
        ),
        "loudness": (
            [row for row in loudness if "case" in row],
            lambda rows: draw_by_system(
                rows, "case", ["case", "measures", "expected"], show_loudness
            ),
        ),
        "loudness-songs": (
            [row for row in loudness if "set" in row],
            lambda rows: draw_rows(SONGS, rows),
        ),
    }
    return {name: build(chosen) for name, (chosen, build) in tables.items() if chosen}


def replace_tables(page: str, tables: dict[str, str]) -> str:
    """Return a page with new tables between its markers.

    Raises
    ------
    ValueError
        If the page has no such markers.
    """
    for name, table in tables.items():
        begin = BEGIN.format(name)
        before, found, rest = page.partition(begin + "\n")
        _, ended, after = rest.partition(END)
        if not found or not ended:
            raise ValueError(f"the page has no lines {begin!r} … {END!r}; add them")
        page = f"{before}{begin}\n{table}\n{END}{after}"
    return page


def write_tables(path: Path, tables: dict[str, str]) -> None:
    """Replace the tables of a page."""
    path.write_text(replace_tables(path.read_text(), tables))
