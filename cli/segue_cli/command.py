"""How a command is declared: its parameters, the settings that it reads, and its examples."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from segue.model.settings import SETTINGS, Settings
from segue_cli.context import Context
from segue_cli.conversion import spare_conversion
from segue_cli.exit_code import ExitCode
from segue_cli.help import format_options, styled
from segue_cli.views.output import Output

METAVARS = {
    "graph": "FILE",
    "price": "NUMBER",
    "vcpus": "NUMBER",
    "on_deletion": "keep|remove",
}

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Write one JSON document to standard output, and nothing else."),
]
NoColor = Annotated[
    bool, typer.Option("--no-color", help="Write without colours, as with NO_COLOR=1.")
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        envvar="SEGUE_DEBUG",
        show_envvar=True,
        help="Show the traceback of an unexpected error.",
    ),
]
GENERAL = {"as_json": AsJson, "no_color": NoColor, "debug": Debug}


class Command(TyperCommand):
    """A command whose help has its settings apart, and ends with examples."""

    examples: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, --help included."""
        return spare_conversion(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what the usage line says of the parameters."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the parameters in groups."""
        groups = {**dict.fromkeys(self.settings, "Settings"), **dict.fromkeys(GENERAL, "General")}
        format_options(self.get_params(ctx), groups, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the examples, as they are typed."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")

    def get_help(self, ctx: Any) -> str:
        """Return the help, coloured where a terminal shows it."""
        return styled(super().get_help(ctx))


def command(
    *, settings: Sequence[str] = (), examples: Sequence[str] = (), takes_more: bool = False
) -> Callable[[Callable[..., ExitCode | None]], Command]:
    """Make a command of a function.

    The function gets a ``Context`` in place of the options that all commands share, and answers
    with an exit code (None is ``OK``). Its other parameters are annotated for Typer, its docstring
    is the help. With ``takes_more``, options that are not its own are left in
    ``typer.Context.args``.
    """
    shared = {**{name: _setting(name) for name in settings}, **GENERAL}

    def declare(function: Callable[..., ExitCode | None]) -> Command:
        @functools.wraps(function)
        def run(**given: Any) -> ExitCode:
            common = {name: given.pop(name) for name in shared}
            output = Output(as_json=common["as_json"])
            chosen = Settings.of(**{name: common[name] for name in settings})
            told = {"NO_COLOR": common["no_color"], "SEGUE_DEBUG": common["debug"]}
            with _child_processes_told(told):
                return function(Context(settings=chosen, output=output), **given) or ExitCode.OK

        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*own, *(_parameter(name, annotation) for name, annotation in shared.items())]
        )
        run.__annotations__ = {p.name: p.annotation for p in own} | shared
        del run.__wrapped__  # or the hints would be read from the function itself
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        more = {"allow_extra_args": takes_more, "ignore_unknown_options": takes_more}
        app.command(function.__name__, cls=Command, context_settings=more)(run)
        made = typer.main.get_command(app)
        assert isinstance(made, Command)
        made.settings, made.examples = tuple(settings), tuple(examples)
        return made

    return declare


@contextlib.contextmanager
def _child_processes_told(switches: Mapping[str, bool]) -> Iterator[None]:
    """Set environment variables for as long as a command runs, as its options would."""
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


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    default = False if name in GENERAL else None
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _setting(name: str) -> Any:
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
