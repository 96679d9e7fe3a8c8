"""Declares commands: ``@command`` above options of click, on a function that gets a ``Context``.

::

    @command(settings=("graph", "ledger"), examples=("segue status --watch 5",))
    @click.option("--watch", type=float, metavar="SECONDS", help="Refresh at this interval.")
    def status(context: Context, watch: float | None) -> ExitCode | None:
        \"\"\"Show the progress of each job.\"\"\"

Options that several commands share are decorators in ``segue_cli.parameters``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from segue.adapters.connect import ledger_exists
from segue.errors import ConfigurationError
from segue.extras import require
from segue.log import FILE, LEVEL, LEVELS, configure
from segue.model.ledger import Ledger, Query, find_pages
from segue.model.media_file import resolve_prefix
from segue.model.settings import SETTINGS, Settings
from segue.stack import Stack, load_graph, open_stack
from segue_cli.exit_code import ExitCode
from segue_cli.help import HelpContext
from segue_cli.views.output import Output

if TYPE_CHECKING:
    from segue.model.graph import Graph

ARGUMENTS = "segue_cli.arguments"


def complete_path(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a path."""
    return [CompletionItem(incomplete, type="file")]


def take_dash(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Take ``-`` as the name of an output for standard output, which None stands for."""
    return None if value == "-" else value


METAVARS = {
    "graph": "FILE",
    "price": "NUMBER",
    "vcpus": "NUMBER",
    "on_deletion": "keep|remove",
}
GENERAL = (
    click.Option(
        ["--json", "as_json"],
        is_flag=True,
        help="Write a single JSON document to standard output.",
    ),
    click.Option(["--no-color"], is_flag=True, help="Disable colours, as NO_COLOR=1 does."),
    click.Option(
        ["--debug"],
        is_flag=True,
        envvar="SEGUE_DEBUG",
        show_envvar=True,
        help="Show tracebacks of unexpected errors.",
    ),
    click.Option(
        ["--log-level"],
        type=click.Choice(LEVELS),
        envvar=LEVEL,
        show_envvar=True,
        metavar="LEVEL",
        help="Log events of this severity and above: debug, info, warning or error.  "
        "[default: info]",
    ),
    click.Option(
        ["--log-file"],
        envvar=FILE,
        show_envvar=True,
        metavar="FILE",
        help="Append all that is logged to this file, too, as a JSON object per line.",
        shell_complete=complete_path,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Context:
    """The settings and output of a command, built from the options that all commands share."""

    settings: Settings
    output: Output
    arguments: tuple[str, ...] = ()  # as they were typed
    typed_settings: Mapping[str, str] = field(default_factory=dict)  # on the command line
    damaged: set[str] = field(default_factory=set)  # files whose records could not be read

    @functools.cached_property
    def graph(self) -> Graph:
        """The graph that the settings select."""
        return load_graph(self.settings)

    def format_command(self, name: str, *arguments: str) -> str:
        """Return another command for people to type, with those of the settings that it takes."""
        # By its name, as segue_cli.main does: every command imports this module.
        command = getattr(importlib.import_module(f"segue_cli.commands.{name}"), name)
        settings = [(n, value) for n, value in self.typed_settings.items() if n in command.settings]
        options = [word for n, value in settings for word in (f"--{n.replace('_', '-')}", value)]
        return shlex.join(["segue", name, *arguments, *options])

    @contextlib.contextmanager
    def open(self, *, create: bool = False) -> Iterator[Stack]:
        """Open the stack; with ``create``, create the ledger if it does not exist yet."""
        if not create and not ledger_exists(self.settings.ledger):
            self.output.note(
                f"There is no ledger {self.settings.ledger} yet; nothing has been recorded."
            )
        configure(as_json=False, stream=sys.stderr)
        with open_stack(self.settings, graph=self.graph, create=create) as stack:
            yield stack
            self.damaged.update(stack.ledger.damage.reasons)


def check_prefix(ledger: Ledger, prefix: str) -> None:
    """Raise an error if a prefix is a local path that is neither there nor in the ledger."""
    if prefix and not any(find_pages(ledger, Query(prefix=prefix), limit=1)):
        resolve_prefix(prefix)


class Command(click.Command):
    """A command whose help lists its settings separately, and ends with examples."""

    context_class = HelpContext

    def __init__(
        self,
        *args: Any,
        settings: Sequence[str],
        examples: Sequence[str],
        requires: Sequence[str],
        **attributes: Any,
    ) -> None:
        super().__init__(*args, **attributes)
        self.settings, self.examples, self.requires = settings, examples, requires
        self.params += [*map(_build_setting_option, settings), *GENERAL]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and remember how they were typed."""
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the function with a ``Context`` in place of the options that all commands share."""
        values = ctx.params
        output = Output(as_json=values.pop("as_json"))
        typed = {
            name: str(values[name])
            for name in self.settings
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        }
        settings = Settings.load(**{name: values.pop(name) for name in self.settings})
        switches = {"NO_COLOR": values.pop("no_color"), "SEGUE_DEBUG": values.pop("debug")}
        variables = {name: "1" for name, is_on in switches.items() if is_on}
        variables |= _prepare_log(values.pop("log_level"), values.pop("log_file"))
        if "models" in self.settings and settings.models is not None:
            variables[SETTINGS["models"].variable] = settings.models
        require("this command", *self.requires)
        values["context"] = context = Context(
            settings=settings,
            output=output,
            arguments=ctx.meta[ARGUMENTS],
            typed_settings=typed,
        )
        with _export(variables):
            if {LEVEL, FILE} & variables.keys():
                configure(as_json=False, stream=sys.stderr)
            code = super().invoke(ctx)
        return ExitCode.FAILURES if context.damaged and not code else code

    def group_parameters(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        """Return the syntax and meaning of each parameter, by group."""
        groups: dict[str, list[tuple[str, str]]] = {
            name: [] for name in ("Arguments", "Options", "Settings", "General")
        }
        general = (*GENERAL, self.get_help_option(ctx))
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if isinstance(parameter, click.Argument):
                groups["Arguments"].append((record[0].strip("[]."), record[1]))
            elif parameter.name in self.settings:
                groups["Settings"].append(record)
            else:
                groups["General" if parameter in general else "Options"].append(record)
        return groups

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write nothing: ``format_options`` writes the arguments, too."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the parameters by group."""
        for name, rows in self.group_parameters(ctx).items():
            if rows:
                with formatter.section(name):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples."""
        with formatter.section("Examples"):
            formatter.write("".join(f"  {example}\n" for example in self.examples))


def command(
    *,
    settings: Sequence[str] = (),
    examples: Sequence[str] = (),
    requires: Sequence[str] = (),
    extra_options: bool = False,
) -> Callable[[Callable[..., ExitCode | None]], Command]:
    """Turn a function into a command.

    The function's docstring is the help, and it returns an exit code (None means ``OK``).
    ``requires`` names the extras of Segue without which the command cannot run. With
    ``extra_options``, options that it does not know are left in ``click.Context.args``.
    """
    return click.command(
        cls=Command,
        settings=settings,
        examples=examples,
        requires=requires,
        context_settings={
            "show_default": True,
            "allow_extra_args": extra_options,
            "ignore_unknown_options": extra_options,
        },
    )


def _prepare_log(level: str | None, file: str | None) -> dict[str, str]:
    """Return the variables by which this process and its children log; check the file."""
    variables = {LEVEL: level} if level is not None else {}
    if file:
        variables[FILE] = path = os.path.abspath(os.path.expanduser(file))
        try:
            with open(path, "ab"):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"the log file {file!r} cannot be written ({error.strerror}); name another with "
                "--log-file"
            ) from error
    return variables


@contextlib.contextmanager
def _export(variables: Mapping[str, str]) -> Iterator[None]:
    """Pass options on to child processes, as environment variables, while a command runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _build_setting_option(name: str) -> click.Option:
    setting = SETTINGS[name]
    return click.Option(
        [f"--{name.replace('_', '-')}"],
        envvar=setting.variable,
        show_envvar=True,
        show_default=setting.default,
        metavar=METAVARS.get(name, "URL"),
        help=setting.meaning[0].upper() + setting.meaning[1:] + ".",
        shell_complete=None if METAVARS.get(name) == "NUMBER" else complete_path,
    )
