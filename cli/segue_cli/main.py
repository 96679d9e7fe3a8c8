"""The ``segue`` command: finds the command that is called, and puts errors into words."""

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from segue.errors import ConfigurationError, SegueError, TransientError
from segue_cli.conversion import spare_conversion
from segue_cli.exit_code import ExitCode
from segue_cli.help import format_options, styled
from segue_cli.views.text import printable

# Each is the object of its own name in segue_cli.commands.<name>, imported when it is called.
COMMANDS = {
    "Start": {
        "demo": "Tour Segue on a small catalogue that it makes itself.",
        "init": "Start a project: a graph, a first job and its test.",
        "graph": "Show the graph of jobs, as a tree, Mermaid, SVG or JSON.",
        "run": "Run one job on one file, and show the result.",
        "doctor": "Check what is installed, and what can be reached.",
    },
    "Work": {
        "up": "Run the whole system here, on a folder that it watches.",
        "plan": "Count what a backfill would do, and estimate its cost.",
        "backfill": "Compute what files are missing, and nothing else.",
        "stream": "Work on messages as they come.",
        "request": "Ask the streaming pipelines for results, for some files or a prefix.",
        "retry": "Let what failed be tried again.",
        "sweep": "Publish again what was left lying.",
        "reconcile": "Find and mend what events that never came left undone.",
        "gc": "Remove artifacts that nothing refers to any more.",
    },
    "Look": {
        "status": "Show how far each job has come.",
        "watch": "Follow a request, or a file, until it is done.",
        "ping": "Walk the graph without work, to see that all pipelines answer.",
        "explain": "Tell all about one file, and what would be done next.",
        "failures": "Show what failed, by job and kind.",
    },
    "Deploy": {
        "package": "Build the archives of the Cloud Functions.",
    },
}
SUMMARIES = {name: text for group in COMMANDS.values() for name, text in group.items()}


class Segue(TyperGroup):
    """Lists the commands without importing them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, --help included."""
        return spare_conversion(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is called, and complete or call that."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in groups, then the options."""
        for group, commands in COMMANDS.items():
            with formatter.section(group):
                formatter.write_dl(list(commands.items()), col_max=12)
        format_options(self.get_params(ctx), {}, ctx, formatter)

    def get_help(self, ctx: Any) -> str:
        """Return the help, coloured where a terminal shows it."""
        return styled(super().get_help(ctx))


def load(name: str) -> TyperCommand:
    """Import one command."""
    found = getattr(importlib.import_module(f"segue_cli.commands.{name}"), name)
    assert isinstance(found, TyperCommand)
    return found


def build() -> TyperGroup:
    """Put the command line together."""
    app = typer.Typer(
        cls=Segue,
        name="segue",
        rich_markup_mode=None,
        epilog="'segue COMMAND --help' tells more of each command.",
    )
    app.callback(invoke_without_command=True)(_root)
    group = typer.main.get_command(app)
    assert isinstance(group, Segue)
    for name, summary in SUMMARIES.items():
        group.add_command(TyperCommand(name, help=summary, rich_markup_mode=None), name)
    return group


def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version, and end.")] = False,
) -> None:
    """Turn a catalogue of media into versioned features: only what is missing is computed."""
    if version:
        from segue.model.artifact import segue_version

        typer.echo(f"segue {segue_version()}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(ExitCode.USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no name of a file may stop a report
    try:
        code = build().main(given, prog_name="segue", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as exit_:  # shell completion, or a reader that went away
        _close_quietly()
        return exit_.code if isinstance(exit_.code, int) else ExitCode.ERROR
    except (BrokenPipeError, KeyboardInterrupt, typer.Abort, Exception) as error:  # noqa: BLE001
        return _tell(error, debug="--debug" in given or bool(os.environ.get("SEGUE_DEBUG")))
    if code == ExitCode.INTERRUPTED:  # Typer has caught it
        _say("interrupted")
    return int(code or ExitCode.OK)


def _tell(error: BaseException, *, debug: bool) -> ExitCode:
    """Say what went wrong in words, and return what it means."""
    if debug and not isinstance(error, KeyboardInterrupt | typer.Abort | typer.TyperException):
        traceback.print_exception(error)
    match error:
        case BrokenPipeError():
            _close_quietly()
            return ExitCode.ERROR
        case KeyboardInterrupt() | typer.Abort():
            _say("interrupted")
            return ExitCode.INTERRUPTED
        case typer.TyperException():
            ctx = getattr(error, "ctx", None)
            more = f"\nTry '{ctx.command_path} --help'." if ctx is not None else ""
            _say(f"error: {error.format_message()}{more}")
            return ExitCode.USAGE
        case ConfigurationError():
            _say(f"error: {error}")
            return ExitCode.USAGE
        case TransientError():
            _say(f"error: {error}\nNothing is lost; run the same command again.")
            return ExitCode.UNAVAILABLE
        case SegueError():
            _say(f"error: {error}")
            return ExitCode.ERROR
    hint = "" if debug else "\nRun it again with --debug for the traceback."
    _say(f"error: unexpected {type(error).__name__}: {error}{hint}")
    return ExitCode.ERROR


def _say(text: str) -> None:
    safe = "\n".join(printable(line) for line in text.splitlines())
    sys.stderr.write(f"segue: {safe}\n")


def _close_quietly() -> None:
    """Let the interpreter end without a word about a reader that went away."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
