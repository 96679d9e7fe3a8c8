"""The ``segue`` command: dispatches to its subcommands and reports errors."""

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
from segue.extras import MissingExtra, find_extra, require
from segue_cli.conversion import skip_conversion
from segue_cli.exit_code import ExitCode
from segue_cli.help import format_options, style_help
from segue_cli.views.text import escape

# Each is the object of that name in segue_cli.commands.<name>, imported when it is called.
COMMANDS = {
    "Start": {
        "demo": "Tour Segue on a small generated catalogue.",
        "init": "Create a project: a graph, a first job and its test.",
        "graph": "Show the job graph as a tree, Mermaid, SVG or JSON.",
        "run": "Run one job on one file and show the result.",
        "doctor": "Check the installation, the settings and the connections.",
    },
    "Process": {
        "up": "Run the whole system on this machine and watch a folder.",
        "plan": "Show what a backfill would compute, and estimate its cost.",
        "backfill": "Compute the missing results of a catalogue.",
        "stream": "Run the streaming pipelines of some or all jobs.",
        "request": "Request results for files or a prefix from the streaming pipelines.",
        "retry": "Retry failed jobs.",
        "sweep": "Republish messages for unfinished work.",
        "reconcile": "Compare the catalogue with the ledger and repair missed events.",
        "gc": "Delete artifacts that are no longer needed.",
    },
    "Inspect": {
        "status": "Show the progress of each job.",
        "watch": "Follow a request or a file until it is done.",
        "ping": "Check that every streaming pipeline answers.",
        "explain": "Show everything about one file, and what would be computed next.",
        "failures": "List failures by job and kind.",
    },
    "Deploy": {
        "package": "Build the archives of the Cloud Functions.",
    },
}
SUMMARIES = {name: text for group in COMMANDS.values() for name, text in group.items()}


class SegueGroup(TyperGroup):
    """List the commands without importing them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, including --help."""
        return skip_conversion(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is called, and return it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else None, rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by group, then the options."""
        for group, commands in COMMANDS.items():
            with formatter.section(group):
                formatter.write_dl(list(commands.items()), col_max=12)
        format_options(self.get_params(ctx), {}, ctx, formatter)

    def get_help(self, ctx: Any) -> str:
        """Return the help, in colour if standard output is a terminal."""
        return style_help(super().get_help(ctx))


def load_command(name: str) -> TyperCommand:
    """Import one command."""
    command = getattr(importlib.import_module(f"segue_cli.commands.{name}"), name)
    assert isinstance(command, TyperCommand)
    return command


def build_app() -> TyperGroup:
    """Build the command line."""
    app = typer.Typer(
        cls=SegueGroup,
        name="segue",
        rich_markup_mode=None,
        epilog="Run 'segue COMMAND --help' for more about a command.",
    )
    app.callback(invoke_without_command=True)(_run_root)
    group = typer.main.get_command(app)
    assert isinstance(group, SegueGroup)
    for name, summary in SUMMARIES.items():
        group.add_command(TyperCommand(name, help=summary, rich_markup_mode=None), name)
    return group


def _run_root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Turn a media catalogue into versioned features, computing only what is missing."""
    if version:
        from segue.model.artifact import find_version

        typer.echo(f"segue {find_version()}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(ExitCode.USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no file name may stop a report
    try:
        code = build_app().main(words, prog_name="segue", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as exit_:  # shell completion, or the reader closed the pipe
        _close_quietly()
        return exit_.code if isinstance(exit_.code, int) else ExitCode.ERROR
    except (BrokenPipeError, KeyboardInterrupt, typer.Abort, Exception) as error:  # noqa: BLE001
        return _report_error(error, debug="--debug" in words or bool(os.environ.get("SEGUE_DEBUG")))
    if code == ExitCode.INTERRUPTED:  # Typer has caught the exception
        _print_message("interrupted")
    return int(code or ExitCode.OK)


def _report_error(error: BaseException, *, debug: bool) -> ExitCode:
    """Print the error, and return its exit code."""
    if debug and not isinstance(error, KeyboardInterrupt | typer.Abort | typer.TyperException):
        traceback.print_exception(error)
    if isinstance(error, ModuleNotFoundError) and (extra := find_extra(error.name)):
        try:
            require("this command", extra)
        except MissingExtra as missing:
            error = missing
    match error:
        case BrokenPipeError():
            _close_quietly()
            return ExitCode.ERROR
        case KeyboardInterrupt() | typer.Abort():
            _print_message("interrupted")
            return ExitCode.INTERRUPTED
        case typer.TyperException():
            ctx = getattr(error, "ctx", None)
            more = f"\nTry '{ctx.command_path} --help'." if ctx is not None else ""
            _print_message(f"error: {error.format_message()}{more}")
            return ExitCode.USAGE
        case ConfigurationError():
            _print_message(f"error: {error}")
            return ExitCode.USAGE
        case TransientError():
            _print_message(f"error: {error}\nNothing is lost; run the same command again.")
            return ExitCode.UNAVAILABLE
        case SegueError():
            _print_message(f"error: {error}")
            return ExitCode.ERROR
    hint = "" if debug else "\nRun the command again with --debug to see the traceback."
    _print_message(f"error: unexpected {type(error).__name__}: {error}{hint}")
    return ExitCode.ERROR


def _print_message(text: str) -> None:
    safe = "\n".join(escape(line) for line in text.splitlines())
    sys.stderr.write(f"segue: {safe}\n")


def _close_quietly() -> None:
    """Keep the interpreter from reporting a broken pipe as it exits."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
