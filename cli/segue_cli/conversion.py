"""Spares Typer the import of pydantic (a quarter of a second) if no value needs a conversion.

Typer builds a pydantic adapter for each parameter of a command that is called, even for default
values and plain text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PLAIN = (str, str | None, list[str], list[str] | None)


class Conversion:
    """Convert the value of a parameter, with Typer's converter only if one is needed."""

    def __init__(self, typers: Callable[[], Any], annotation: Any) -> None:
        self._typers = typers
        self._plain = annotation in PLAIN

    def __call__(self) -> Conversion:
        """Return itself: it replaces the method of a parameter that builds its converter."""
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value to pass to the command's function."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        if value == param.default or (self._plain and isinstance(value, tuple if many else str)):
            return value
        return self._typers().coerce(value, param=param, ctx=ctx)


def skip_conversion(parameters: list[Any]) -> list[Any]:
    """Make parameters convert a value only if it needs it, and return them."""
    for parameter in parameters:
        descriptor = getattr(parameter, "type_descriptor", None)
        # Without a descriptor, this version of Typer converts in another way.
        if descriptor is not None and not isinstance(parameter.get_runtime_param, Conversion):
            typers = parameter.get_runtime_param
            parameter.get_runtime_param = Conversion(typers, descriptor.annotation)
    return parameters
