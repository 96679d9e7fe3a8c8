"""The ``segue`` command: dispatches to its subcommands and reports errors."""

import contextlib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from segue.errors import (
    ConfigurationError,
    DiskFull,
    RunCancelled,
    SegueError,
    TooManyFailures,
    TransientError,
)
from segue.extras import MissingExtra, find_extra, require
from segue.printable import escape, escape_lines
from segue_cli.exit_code import ExitCode
from segue_cli.help import HelpContext
from segue_cli.usage_errors import describe_usage_error

if TYPE_CHECKING:
    from segue_cli.command import Command

# Each is the object of that name in segue_cli.commands.<name>, imported when it is called.
COMMANDS = {
    "Start": {
        "demo": "Tour Segue on a small generated catalogue.",
        "init": "Create a project: a graph, a first job and its test.",
        "jobs": "List the jobs that ship with Segue, or show all about one.",
        "models": "List the models that jobs may name, or get some.",
        "graph": "Show the job graph as a tree, Mermaid, DOT or JSON.",
        "run": "Run one job on one file and show the result.",
        "test": "Try jobs as the system would run them, on several files.",
        "profile": "Show where a job's time and memory go.",
        "doctor": "Check the installation, the settings and the connections.",
    },
    "Process": {
        "up": "Run the whole system on this machine and watch a folder.",
        "plan": "Show what a backfill would compute, and estimate its cost.",
        "backfill": "Compute the missing results of a catalogue.",
        "stream": "Run the streaming pipelines of some or all jobs.",
        "work": "Run streaming pipelines without Beam, as one of many workers.",
        "serve": "Serve the Cloud Functions on this machine, to post events by hand.",
        "request": "Request results for files or a prefix from the streaming pipelines.",
        "retry": "Retry failed jobs.",
        "sweep": "Republish messages for unfinished work.",
        "reconcile": "Compare the catalogue with the ledger and repair missed events.",
        "cancel": "Stop a backfill that is running here or elsewhere.",
        "pause": "Have jobs not computed for now.",
        "resume": "Have paused jobs computed again.",
        "gc": "Delete artifacts that are no longer needed.",
        "erase": "Remove a file's results and artifacts for good, in every namespace.",
    },
    "Inspect": {
        "status": "Show the progress of each job.",
        "watch": "Follow a request or a file until it is done.",
        "ping": "Check that every streaming pipeline answers.",
        "explain": "Show everything about one file, and what would be computed next.",
        "console": "See and hear a catalogue in a web page.",
        "show": "Show the results of one file as values.",
        "failures": "List failures by job and kind.",
        "compare": "Show how a new version of a job differs, on a sample.",
        "runs": "List what was started, by whom, and how it ended.",
        "export": "Write the results of jobs as a table.",
    },
    "Share": {
        "publish": "Publish what other teams may use of a graph.",
        "lock": "Lock a graph to what other teams publish.",
    },
    "Deploy": {
        "package": "Build the archives of the Cloud Functions.",
    },
}
SUMMARIES = {name: text for group in COMMANDS.values() for name, text in group.items()}


class CommandGroup(click.Group):
    """List the commands by group, without importing them."""

    context_class = HelpContext

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that is called, and return it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else None, rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by group, then the options."""
        for group, commands in COMMANDS.items():
            with formatter.section(group):
                formatter.write_dl(commands.items())
        click.Command.format_options(self, ctx, formatter)


def load_command(name: str) -> "Command":
    """Import one command."""
    from segue_cli.command import Command

    command = getattr(importlib.import_module(f"segue_cli.commands.{name}"), name)
    assert isinstance(command, Command)
    return command


@click.group(
    "segue",
    cls=CommandGroup,
    commands=[click.Command(name, help=summary) for name, summary in SUMMARIES.items()],
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    epilog="Run 'segue COMMAND --help' for more about a command.",
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.option(
    "--show-completion",
    "shell",
    type=click.Choice(["bash", "fish", "zsh"]),
    metavar="SHELL",
    help="Show the script that enables completion in bash, fish or zsh, and exit.",
)
@click.pass_context
def app(ctx: click.Context, version: bool, shell: str | None) -> None:
    """Turn a media catalogue into versioned features, computing only what is missing."""
    if version:
        from segue.model.artifact import find_version

        click.echo(f"segue {find_version()}")
        ctx.exit()
    if shell is not None:
        completion = get_completion_class(shell)
        assert completion is not None
        click.echo(completion(app, {}, "segue", "_SEGUE_COMPLETE").source())
        ctx.exit()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit(ExitCode.USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no file name may stop a report
    is_plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    try:
        code = app.main(
            words,
            prog_name="segue",
            standalone_mode=False,
            color=False if is_plain else None,  # of the help; None: if it goes to a terminal
        )
        sys.stdout.flush()
    except SystemExit as exit_:  # shell completion, or the reader closed the pipe
        _close_quietly()
        return exit_.code if isinstance(exit_.code, int) else ExitCode.ERROR
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001
        return _report_error(error, debug="--debug" in words or bool(os.environ.get("SEGUE_DEBUG")))
    return int(code or ExitCode.OK)


def _report_error(error: BaseException, *, debug: bool) -> ExitCode:
    """Print the error, and return its exit code."""
    if debug and not isinstance(error, KeyboardInterrupt | click.Abort | click.ClickException):
        sys.stderr.write(escape_lines("".join(traceback.format_exception(error))))
    match error := _translate_error(error):
        case BrokenPipeError():
            _close_quietly()
            return ExitCode.ERROR
        case KeyboardInterrupt() | click.Abort():
            _print_message("interrupted")
            return ExitCode.INTERRUPTED
        case click.ClickException():
            _print_message(f"error: {describe_usage_error(error)}")
            return ExitCode.USAGE
        case ConfigurationError():
            _print_message(f"error: {error}")
            return ExitCode.USAGE
        case TooManyFailures():
            _print_message(f"error: {error}")
            return ExitCode.FAILURES
        case RunCancelled():
            _print_message(str(error))
            return ExitCode.INTERRUPTED
        case TransientError():
            _print_message(f"error: {error}\nNothing is lost; run the same command again.")
            return ExitCode.UNAVAILABLE
        case SegueError():
            _print_message(f"error: {error}")
            return ExitCode.ERROR
    hint = "" if debug else "\nRun the command again with --debug to see the traceback."
    _print_message(f"error: unexpected {type(error).__name__}: {error}{hint}")
    return ExitCode.ERROR


def _translate_error(error: BaseException) -> BaseException:
    """Return an error that says what to do, in place of one that does not."""
    match error:
        case ModuleNotFoundError(name=name) if extra := find_extra(name):
            try:
                require("this command", extra)
            except MissingExtra as missing:
                return missing
        case OSError(errno=errno.EROFS | errno.EACCES | errno.EPERM, filename=str(name)):
            return ConfigurationError(
                f"{name!r} is not accessible ({error.strerror}); give this user permission, or "
                "name another place"
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT, filename=name):
            where = f" for {name!r}" if name else ""
            return DiskFull(f"no room is left{where}; free some space")
        case UnicodeEncodeError(reason="surrogates not allowed"):
            return ConfigurationError("a file name is not valid UTF-8; rename the file")
    return error


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
