"""The help of a command: in colour on a terminal, with its parameters by group."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import click


class HelpFormatter(click.HelpFormatter):
    """Writes headings and terms in colour, which click removes where there is no terminal."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line."""
        heading = click.style("Usage", fg="green", bold=True)
        super().write_usage(prog, args, prefix or f"{heading}: ")

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Write a heading, and indent what follows."""
        with super().section(click.style(name, fg="green", bold=True)):
            yield

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write terms and their meanings."""
        styled = [(click.style(term, fg="cyan", bold=True), meaning) for term, meaning in rows]
        super().write_dl(styled, col_max, col_spacing)


class HelpContext(click.Context):
    """The context in which click parses a command line and writes its help."""

    formatter_class = HelpFormatter
