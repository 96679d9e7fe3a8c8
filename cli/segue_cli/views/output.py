"""The output of a command: results on standard output, everything else on standard error.

With ``--json``, standard output is a single JSON document. Without it, the output is for people:
in a terminal coloured and fitted to its width; in a pipe plain and as wide as the longest line, so
that nothing is truncated.
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

# Wide enough for any line: a pipe has no width at which to wrap.
PIPE_COLUMNS = 100_000


class Output:
    """The two streams of one command."""

    def __init__(self, *, as_json: bool = False, color: bool = True) -> None:
        self.as_json = as_json
        self._color = color

    @functools.cached_property
    def stdout(self) -> Console:
        """The console on standard output, for results."""
        return self._build_console(sys.stdout)

    @functools.cached_property
    def stderr(self) -> Console:
        """The console on standard error, for progress, notes and questions."""
        return self._build_console(sys.stderr)

    def _build_console(self, stream: TextIO) -> Console:
        from rich.console import Console

        console = Console(
            file=stream,
            markup=False,  # a file name may contain [brackets]
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
        """Write results for people to standard output, each part on its own lines."""
        for part in parts:
            if self.stdout.is_terminal:
                self.stdout.print(part)
            else:
                self.stdout.file.write(render_plain(part))

    def note(self, text: str) -> None:
        """Write a note to standard error."""
        self.stderr.print(text)

    def write_json(self, value: object) -> None:
        """Write the result as a JSON document."""
        sys.stdout.write(encode_json(value, indent=2) + "\n")

    def write_json_stream(
        self, key: str, items: Iterable[object], rest: Callable[[], Mapping[str, object]]
    ) -> None:
        """Write a JSON document that starts with a long list, without holding it in memory.

        ``rest`` is called after the list has ended, and returns the remaining members.
        """
        sys.stdout.write("{" + encode_json(key) + ": [")
        for number, item in enumerate(items):
            sys.stdout.write(("\n" if number == 0 else ",\n") + encode_json(item))
        more = "".join(f",\n{encode_json(k)}: {encode_json(v)}" for k, v in rest().items())
        sys.stdout.write(f"\n]{more}}}\n")


def encode_json(value: object, *, indent: int | None = None) -> str:
    """Encode a value as JSON."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    # A file name that is not UTF-8 contains lone surrogates, which JSON must escape.
    return text if is_encodable(text) else json.dumps(value, indent=indent)


def is_encodable(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def render_plain(part: RenderableType) -> str:
    """Return a part as plain text, as it looks without a terminal."""
    from rich.console import Console

    console = Console(file=io.StringIO(), markup=False, highlight=False, width=PIPE_COLUMNS)
    with console.capture() as captured:
        console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
