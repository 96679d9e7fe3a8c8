"""What is wrong with how a command was typed: click's errors, with the value and the remedy."""

from __future__ import annotations

import click

WORDS = {click.IntRange: "a whole number", click.FloatRange: "a number"}


def describe_usage_error(error: click.ClickException) -> str:
    """Return the message for people, with where to look further."""
    ctx = getattr(error, "ctx", None)
    more = f"\nTry '{ctx.command_path} --help'." if ctx is not None else ""
    return f"{_describe(error, ctx)}{more}"


def _describe(error: click.ClickException, ctx: click.Context | None) -> str:
    parameter = getattr(error, "param", None)
    match error:
        case click.MissingParameter() if isinstance(parameter, click.Argument) and ctx is not None:
            meaning = parameter.get_help_record(ctx)[1]
            name = parameter.make_metavar(ctx).rstrip(".").strip("[]")
            return f"{name} is missing: {_lower(meaning.partition('  [')[0])}"
        case click.BadParameter() if isinstance(parameter, click.Option):
            remedy = _find_remedy(parameter.type)
            value, _, rule = error.message.partition(" is not ")
            if remedy and rule:
                return f"{max(parameter.opts, key=len)} is {value}; write {remedy}"
        case click.NoSuchOption() if ctx is not None and isinstance(ctx.command, click.Group):
            if (name := error.option_name) in _list_common_options():
                return (
                    f"{name} stands before the command; write it after, as in 'segue status --json'"
                )
    return error.format_message()


def _find_remedy(kind: object) -> str | None:
    """Return what to write for a parameter of a type, or None if only click knows."""
    if isinstance(kind, click.Choice):
        *others, last = map(str, kind.choices)
        return f"{', '.join(others)} or {last}"
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return None
    words = WORDS[type(kind)]
    if kind.max is None:
        return f"{words} of at least {kind.min:g}"
    return f"{words} from {kind.min:g} to {kind.max:g}"


def _list_common_options() -> set[str]:
    """Return the options that all commands have, and those of the settings."""
    from segue.model.settings import SETTINGS
    from segue_cli.command import GENERAL

    common = {option for parameter in GENERAL for option in parameter.opts}
    return common | {f"--{name.replace('_', '-')}" for name in SETTINGS}


def _lower(sentence: str) -> str:
    """Return a sentence as it goes on after a colon."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
