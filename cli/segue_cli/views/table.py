"""Tables that fit a terminal and survive a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def table(*columns: str) -> Table:
    """Make a table without rules; a column whose name starts with ``>`` is aligned to the right.

    A cell that is too long for a terminal is folded, never cut.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column.startswith(">")
        made.add_column(
            column.lstrip(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    return made


def bar(part: int, whole: int, *, width: int = 12) -> Text:
    """Draw a share as a bar."""
    from rich.text import Text

    full = round(width * part / whole) if whole else 0
    if whole and 0 < part < whole:
        full = min(max(full, 1), width - 1)
    return Text.assemble(("━" * full, "green"), ("━" * (width - full), "dim"))
