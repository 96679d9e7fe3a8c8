"""Where a command's words go: results to standard output, talk to standard error.

With ``--json`` standard output is one JSON document and nothing else. Without, it is meant for
people: in a terminal coloured and as wide as it is; in a pipe plain, and as wide as the longest
line, so that nothing is cut.
"""

from __future__ import annotations

import functools
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Wide enough for any line: a pipe has no edge at which to wrap.
PIPE_COLUMNS = 100_000


class Output:
    """The two streams of one command."""

    def __init__(self, *, as_json: bool = False, color: bool = True) -> None:
        self.as_json = as_json
        self._color = color

    @functools.cached_property
    def results(self) -> Console:
        """Standard output, for people."""
        return self._console(sys.stdout)

    @functools.cached_property
    def talk(self) -> Console:
        """Standard error: progress, notes, questions."""
        return self._console(sys.stderr)

    def _console(self, stream: TextIO) -> Console:
        from rich.console import Console

        console = Console(
            file=stream,
            markup=False,  # a file's name may hold [brackets]
            highlight=False,
            emoji=False,
            no_color=True if not self._color else None,
        )
        if not console.is_terminal:
            console = Console(
                file=stream, markup=False, highlight=False, emoji=False, width=PIPE_COLUMNS
            )
        return console

    def print(self, *parts: RenderableType) -> None:
        """Write something for people to standard output, each part in lines of its own."""
        for part in parts:
            if self.results.is_terminal:
                self.results.print(part)
            else:
                self.results.file.write(plain(part))

    def note(self, text: str) -> None:
        """Tell the person something that is no result."""
        self.talk.print(text)

    def json(self, value: object) -> None:
        """Write the JSON document that is the result."""
        sys.stdout.write(encode(value, indent=2) + "\n")

    def json_stream(
        self, key: str, items: Iterable[object], rest: Callable[[], Mapping[str, object]]
    ) -> None:
        """Write a JSON document that starts with a long list, which is never held in memory.

        ``rest`` is asked, once the list has ended, for what stands behind it.
        """
        sys.stdout.write("{" + encode(key) + ": [")
        for number, item in enumerate(items):
            sys.stdout.write(("\n" if number == 0 else ",\n") + encode(item))
        more = "".join(f",\n{encode(k)}: {encode(v)}" for k, v in rest().items())
        sys.stdout.write(f"\n]{more}}}\n")


def encode(value: object, *, indent: int | None = None) -> str:
    """Write a value as JSON."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    # A file's name that is no UTF-8 comes as lone surrogates, which only an escape can carry.
    return text if is_encodable(text) else json.dumps(value, indent=indent)


def is_encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def plain(part: RenderableType) -> str:
    """What a part looks like where there is no terminal."""
    from rich.console import Console

    console = Console(file=io.StringIO(), markup=False, highlight=False, width=PIPE_COLUMNS)
    with console.capture() as captured:
        console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
