"""Formats JSON for people: short values stay on one line, long lists fill their lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def format_json(value: Any, *, width: int) -> str:
    """Format a value as JSON in lines of about the given width."""
    return "\n".join(_format_lines(value, width, ""))


def _format_lines(value: Any, width: int, indent: str, before: int = 0) -> list[str]:
    """Return the lines of a value; ``before`` characters precede it on the first line."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + before + len(flat) <= width or not isinstance(value, dict | list) or not value:
        return [flat]
    inner = indent + "  "
    if isinstance(value, list):
        if not any(isinstance(item, dict | list) for item in value):
            return ["[", *_wrap_values(value, width, inner), f"{indent}]"]
        items = [_format_lines(item, width, inner) for item in value]
        return ["[", *_join_items(items, inner), f"{indent}]"]
    items = []
    for key, item in value.items():
        name = json.dumps(key, ensure_ascii=False)
        first, *rest = _format_lines(item, width, inner, before=len(name) + len(": ,"))
        items.append([f"{name}: {first}", *rest])
    return ["{", *_join_items(items, inner), f"{indent}}}"]


def _join_items(items: list[list[str]], inner: str) -> Iterator[str]:
    for number, (first, *rest) in enumerate(items):
        comma = "," if number < len(items) - 1 else ""
        lines = [inner + first, *rest]
        yield from lines[:-1]
        yield lines[-1] + comma


def _wrap_values(values: list[Any], width: int, inner: str) -> Iterator[str]:
    words = [json.dumps(v, ensure_ascii=False) for v in values]
    words = [f"{word}," for word in words[:-1]] + words[-1:]
    line = inner
    for word in words:
        if line.strip() and len(line) + len(word) + 1 > width:
            yield line.rstrip()
            line = inner
        line += word + " "
    yield line.rstrip()
