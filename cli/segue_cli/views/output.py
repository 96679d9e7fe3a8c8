"""The output of a command: results on standard output, everything else on standard error.

With ``--json``, standard output is a single JSON document. Without it, the output is for people:
in a terminal coloured and fitted to its width; in a pipe plain and as wide as the longest line, so
that nothing is truncated.
"""

from __future__ import annotations

import errno
import functools
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

import click

from segue.errors import ConfigurationError, DiskFull, SegueError
from segue.printable import encode_json, escape_lines

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

# Wide enough for any line: a pipe has no width at which to wrap.
PIPE_COLUMNS = 100_000
BAR_COLUMNS = 12
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Output:
    """The two streams of one command."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    @functools.cached_property
    def stdout(self) -> Console:
        """The console on standard output, for results."""
        return _build_console(sys.stdout)

    @functools.cached_property
    def stderr(self) -> Console:
        """The console on standard error, for progress, notes and questions."""
        return _build_console(sys.stderr)

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

    def confirm(self, question: str, action: str) -> None:
        """Ask for confirmation on the terminal; raise ``Abort`` if it is refused."""
        if not sys.stdin.isatty():
            raise ConfigurationError(
                f"cannot ask for confirmation to {action}: standard input is not a terminal; use "
                "--yes"
            )
        click.confirm(question, abort=True, err=True)

    def write_json(self, value: object) -> None:
        """Write the result as a JSON document."""
        sys.stdout.write(encode_json(value, indent=2) + "\n")

    def write_json_stream(
        self, key: str, items: Iterable[object], rest: Callable[[], Mapping[str, object]]
    ) -> None:
        """Write a JSON document that starts with a long list, without holding it in memory.

        ``rest`` is called after the list has ended, and returns the remaining members. If an item
        fails, the document ends there, with the ``error`` as its last member.
        """
        sys.stdout.write("{" + encode_json(key) + ": [")
        failure: dict[str, object] = {}
        try:
            for number, item in enumerate(items):
                sys.stdout.write(("\n" if number == 0 else ",\n") + encode_json(item))
        except BaseException as error:
            failure["error"] = str(error) or type(error).__name__
            raise
        finally:
            members = {**rest(), **failure}
            more = "".join(f",\n{encode_json(k)}: {encode_json(v)}" for k, v in members.items())
            sys.stdout.write(f"\n]{more}}}\n")


def _build_console(stream: TextIO) -> Console:
    console = _find_console_class()(file=stream)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    return console


@functools.cache
def _find_console_class() -> type[Console]:
    """Return the class of consoles; rich is imported only when something is printed."""
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

    class PrintableConsole(Console):
        """A console that escapes the unprintable characters of all that it renders.

        The names of files may contain any characters, such as [brackets].
        """

        def __init__(self, **options: Any) -> None:
            super().__init__(markup=False, highlight=False, emoji=False, **options)

        def render_str(self, text: str, **options: Any) -> Text:
            """Return a text as a part, escaped before it is fitted to the width."""
            return super().render_str(escape_lines(text), **options)

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            """Render a part; colours and cursor movements are no text, and pass."""
            for segment in super().render(renderable, options):
                if segment.control is None and not segment.text.isprintable():
                    yield Segment(escape_lines(segment.text), segment.style)
                else:
                    yield segment

    return PrintableConsole


def write_file(path: str, data: bytes) -> None:
    """Write a file that is named on the command line."""
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise build_write_error(path, error) from error


def build_write_error(path: str, error: OSError) -> SegueError:
    """Return the error to raise if a path that is named on the command line cannot be written."""
    if error.errno in NO_ROOM:
        return DiskFull(f"no room is left to write {path!r}; free some space")
    return ConfigurationError(
        f"{path!r} cannot be written ({error.strerror}); name another place with --output"
    )


def render_plain(part: RenderableType) -> str:
    """Return a part as plain text, as it looks without a terminal."""
    console = _find_console_class()(file=io.StringIO(), width=PIPE_COLUMNS)
    with console.capture() as captured:
        console.print(part)
    # Not by splitlines(), which takes characters of names for line breaks.
    return "".join(f"{line.rstrip()}\n" for line in captured.get().split("\n")[:-1])


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


def draw_bar(part: int, whole: int) -> Text:
    """Draw a share as a bar, which can be read without colours, too."""
    from rich.text import Text

    full = round(BAR_COLUMNS * part / whole) if whole else 0
    if whole and 0 < part < whole:
        full = min(max(full, 1), BAR_COLUMNS - 1)
    return Text.assemble(("━" * full, "green"), ("─" * (BAR_COLUMNS - full), "dim"))
