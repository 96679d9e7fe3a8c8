"""Builds tables that suit both a terminal and a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def build_table(*columns: str) -> Table:
    """Build a table without rules; a column whose name starts with ``>`` is right-aligned.

    A cell that is too long for a terminal is wrapped, never truncated.
    """
    from rich.table import Table

    built = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column.startswith(">")
        built.add_column(
            column.lstrip(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    return built


def draw_bar(part: int, whole: int, *, width: int = 12) -> Text:
    """Draw a share as a bar."""
    from rich.text import Text

    full = round(width * part / whole) if whole else 0
    if whole and 0 < part < whole:
        full = min(max(full, 1), width - 1)
    return Text.assemble(("━" * full, "green"), ("━" * (width - full), "dim"))
