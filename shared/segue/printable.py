"""Escapes what a terminal or a log viewer would obey: control and bidirectional characters.

Strangers write file names, tags and what jobs say about them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, TextIO, cast


def escape(text: str) -> str:
    """Return a text with its unprintable characters escaped, as in Python's literals."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape_lines(text: str) -> str:
    """Return a text with all unprintable characters but tabs and line feeds escaped."""
    if text.isprintable():
        return text
    return "".join(c if c in "\t\n" else escape(c) for c in text)


def encode_json(
    value: object,
    *,
    indent: int | None = None,
    default: Callable[[Any], object] | None = None,
    allow_nan: bool = True,
) -> str:
    """Encode a value as JSON that is valid UTF-8, with unprintable characters escaped.

    A file name that is not UTF-8 contains lone surrogates, which are written as ``\\udc..``.
    """
    text = json.dumps(
        value, indent=indent, ensure_ascii=False, default=default, allow_nan=allow_nan
    )
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def make_printable(stream: TextIO) -> TextIO:
    """Return a stream that writes to another, with unprintable characters escaped."""
    return cast("TextIO", _PrintableStream(stream))


class _PrintableStream:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, and return its length."""
        self._stream.write(escape_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write some texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the stream."""
        return getattr(self._stream, name)
