"""The reference of the command line, written from the commands themselves: ``docs/cli.md``.

``python -m segue_cli.reference > docs/cli.md`` renews it; a test tells when that is due.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from segue.model.settings import SETTINGS
from segue_cli.command import GENERAL, Command
from segue_cli.exit_code import ExitCode
from segue_cli.help import help_record
from segue_cli.main import COMMANDS, load

EXIT_CODES = {
    ExitCode.OK: "what was asked for is done",
    ExitCode.ERROR: "something unexpected; a job that was run by hand failed; a fault was found",
    ExitCode.USAGE: "the command line, a setting or the graph is wrong; nothing was done",
    ExitCode.FAILURES: "some files failed, beyond what was tolerated",
    ExitCode.UNFINISHED: "something is held by others, deferred or superseded: run again",
    ExitCode.UNAVAILABLE: "a server is away, or a disk is full: try again later",
    ExitCode.INTERRUPTED: "Ctrl-C",
}
# Variables that are no settings with an option of their own.
VARIABLES = {
    "SEGUE_DEBUG": "as --debug: tracebacks of unexpected errors, and of what jobs raise",
    "SEGUE_FFMPEG": "the ffmpeg to use; by default the one on PATH, else that of imageio-ffmpeg",
    "SEGUE_EMULATORS": "a folder laid out like the Cloud SDK's, in which tests find emulators",
    "FIRESTORE_EMULATOR_HOST": "host:port of a Firestore emulator, in place of the service",
    "PUBSUB_EMULATOR_HOST": "host:port of a Pub/Sub emulator",
    "STORAGE_EMULATOR_HOST": "URL of a Cloud Storage emulator",
    "NO_COLOR": "as --no-color, if it is not empty",
    "COLUMNS": "how wide a terminal is taken to be",
}
INTRODUCTION = """\
# The command line

<!-- Written by `python -m segue_cli.reference > docs/cli.md`; a test compares them. -->

Results go to standard output, everything else to standard error. With `--json` standard output is
one JSON document; of `up` and `stream`, which go on, a JSON object a line. In a pipe tables are
plain and as wide as they need to be. `segue --install-completion` teaches the shell to complete
commands, options and the names of jobs.
"""


def reference() -> str:
    """Write the whole reference."""
    return "\n".join(_document())


def _document() -> Iterator[str]:
    yield INTRODUCTION
    for group, commands in COMMANDS.items():
        names = ", ".join(f"[{name}](#segue-{name})" for name in commands)
        yield f"* **{group}**: {names}"
    yield ""
    for commands in COMMANDS.values():
        for name in commands:
            command = load(name)
            assert isinstance(command, Command)
            yield from _command(name, command)
    yield from _general()
    yield "## Exit codes\n"
    yield from _table("code", "meaning", {str(int(c)): t for c, t in EXIT_CODES.items()})
    yield "## Environment variables\n"
    settings = {s.variable: f"{s.meaning}; default: {s.default}" for s in SETTINGS.values()}
    yield from _table("variable", "meaning", settings | VARIABLES)


def _command(name: str, command: Command) -> Iterator[str]:
    yield f"## segue {name}\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    yield "```console"
    yield from (f"$ {example}" for example in command.examples)
    yield "```\n"
    own = [p for p in command.params if p.name not in (*command.settings, *GENERAL)]
    if own:
        context = typer.Context(command, info_name=name)
        yield from _table("option", "meaning", _records(own, context))
    if command.settings:
        names = ", ".join(f"`--{name.replace('_', '-')}`" for name in command.settings)
        yield f"Settings: {names}.\n"


def _general() -> Iterator[str]:
    """The options that commands share, told once."""
    commands = [load(name) for group in COMMANDS.values() for name in group]
    shared: dict[str, Any] = {}
    for command in commands:
        shared |= {p.name: p for p in command.params if p.name in (*SETTINGS, *GENERAL)}
    order = [shared[name] for name in (*SETTINGS, *GENERAL) if name in shared]
    yield "## Settings and options of all commands\n"
    yield "An option goes before its variable, a variable before what the graph says.\n"
    yield from _table("option", "meaning", _records(order, typer.Context(commands[0])))


def _records(parameters: Sequence[Any], context: typer.Context) -> dict[str, str]:
    return dict(r for p in parameters if (r := help_record(p, context)) is not None)


def _table(left: str, right: str, rows: Mapping[str, str]) -> Iterator[str]:
    yield f"| {left} | {right} |\n|-|-|"
    for name, meaning in rows.items():
        yield f"| `{_cell(name)}` | {_cell(meaning)} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
