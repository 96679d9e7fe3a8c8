"""The ``@command`` decorator: declares a command with its settings, options and examples."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from segue.extras import require
from segue.model.settings import SETTINGS, Settings
from segue_cli.context import Context
from segue_cli.conversion import skip_conversion
from segue_cli.exit_code import ExitCode
from segue_cli.help import format_options, style_help
from segue_cli.views.output import Output

METAVARS = {
    "graph": "FILE",
    "price": "NUMBER",
    "vcpus": "NUMBER",
    "on_deletion": "keep|remove",
}

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Write a single JSON document to standard output."),
]
NoColor = Annotated[bool, typer.Option("--no-color", help="Disable colours, as NO_COLOR=1 does.")]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        envvar="SEGUE_DEBUG",
        show_envvar=True,
        help="Show tracebacks of unexpected errors.",
    ),
]
GENERAL = {"as_json": AsJson, "no_color": NoColor, "debug": Debug}


class Command(TyperCommand):
    """A command whose help lists its settings separately, and ends with examples."""

    examples: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, including --help."""
        return skip_conversion(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parameters as the usage line shows them."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the parameters by group."""
        groups = {**dict.fromkeys(self.settings, "Settings"), **dict.fromkeys(GENERAL, "General")}
        format_options(self.get_params(ctx), groups, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the examples."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")

    def get_help(self, ctx: Any) -> str:
        """Return the help, in colour if standard output is a terminal."""
        return style_help(super().get_help(ctx))


def command(
    *,
    settings: Sequence[str] = (),
    examples: Sequence[str] = (),
    requires: Sequence[str] = (),
    extra_options: bool = False,
) -> Callable[[Callable[..., ExitCode | None]], Command]:
    """Turn a function into a command.

    The function receives a ``Context`` in place of the options that all commands share, and returns
    an exit code (None means ``OK``). Its other parameters are annotated for Typer; its docstring is
    the help. ``requires`` names the extras of Segue without which it cannot run. With
    ``extra_options``, options that the command does not know are left in ``typer.Context.args``.
    """
    shared = {**{name: _build_setting_option(name) for name in settings}, **GENERAL}

    def declare(function: Callable[..., ExitCode | None]) -> Command:
        @functools.wraps(function)
        def run(**values: Any) -> ExitCode:
            common = {name: values.pop(name) for name in shared}
            output = Output(as_json=common["as_json"])
            chosen = Settings.load(**{name: common[name] for name in settings})
            switches = {"NO_COLOR": common["no_color"], "SEGUE_DEBUG": common["debug"]}
            require("this command", *requires)
            with _export_switches(switches):
                return function(Context(settings=chosen, output=output), **values) or ExitCode.OK

        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*own, *(_build_parameter(name, annotation) for name, annotation in shared.items())]
        )
        run.__annotations__ = {p.name: p.annotation for p in own} | shared
        del run.__wrapped__  # else the type hints would be read from the function itself
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        more = {"allow_extra_args": extra_options, "ignore_unknown_options": extra_options}
        app.command(function.__name__, cls=Command, context_settings=more)(run)
        made = typer.main.get_command(app)
        assert isinstance(made, Command)
        made.settings, made.examples = tuple(settings), tuple(examples)
        made.requires = tuple(requires)
        return made

    return declare


@contextlib.contextmanager
def _export_switches(switches: Mapping[str, bool]) -> Iterator[None]:
    """Pass the options on to child processes, as environment variables, while a command runs."""
    before = {name: os.environ.get(name) for name in switches}
    os.environ.update({name: "1" for name, is_on in switches.items() if is_on})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _build_parameter(name: str, annotation: Any) -> inspect.Parameter:
    default = False if name in GENERAL else None
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _build_setting_option(name: str) -> Any:
    setting = SETTINGS[name]
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        envvar=setting.variable,
        show_envvar=True,
        show_default=setting.default,
        metavar=METAVARS.get(name, "URL"),
        help=setting.meaning[0].upper() + setting.meaning[1:] + ".",
    )
    return Annotated[str | None, option]
