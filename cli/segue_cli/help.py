"""Formats the help of a command: parameters by group, in colour on a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

HEADING = re.compile(r"^(Usage|[A-Z][A-Za-z ]*):", re.MULTILINE)
TYPE_OF_ARGUMENT = re.compile(r" <(str|list\[str\])>$")
OPTION = re.compile(r"^  (-[-\w]+(?:, --[-\w]+)*)", re.MULTILINE)


def format_options(
    parameters: Sequence[Any],
    groups: Mapping[str, str],
    ctx: Any,
    formatter: Any,
) -> None:
    """Write the arguments, the options, then the groups, which name their parameters."""
    rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    rows |= {group: [] for group in groups.values()}
    for parameter in parameters:
        record = build_help_record(parameter, ctx)
        if record is None:
            continue
        own = "Arguments" if parameter.param_type_name == "argument" else "Options"
        own = "General" if parameter.name == "help" and "General" in rows else own
        rows[groups.get(parameter.name, own)].append(record)
    for group, records in rows.items():
        if records:
            with formatter.section(group):
                formatter.write_dl(records)


def build_help_record(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    """Return a parameter's syntax and help, without the type that Typer adds to an argument."""
    record = parameter.get_help_record(ctx)
    return None if record is None else (TYPE_OF_ARGUMENT.sub("", record[0]), record[1])


def style_help(text: str) -> str:
    """Colour headings and options, if standard output is a terminal with colours enabled."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    text = HEADING.sub("\033[1;32m\\1:\033[0m", text)
    return OPTION.sub("  \033[1;36m\\1\033[0m", text)
