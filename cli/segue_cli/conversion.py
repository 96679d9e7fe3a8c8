"""Keeps Typer from importing pydantic, a quarter of a second, for values that need no conversion.

Typer builds a pydantic adapter for each parameter of a command that is called, even for a default
and for plain text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PLAIN = (str, str | None, list[str], list[str] | None)


class Conversion:
    """Converts what was given for a parameter; asks Typer only if there is something to convert."""

    def __init__(self, typers: Callable[[], Any], annotation: Any) -> None:
        self._typers = typers
        self._plain = annotation in PLAIN

    def __call__(self) -> Conversion:
        """Stand in for the method of a parameter that makes its conversion."""
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value that the command's function gets."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        if value == param.default or (self._plain and isinstance(value, tuple if many else str)):
            return value
        return self._typers().coerce(value, param=param, ctx=ctx)


def spare_conversion(parameters: list[Any]) -> list[Any]:
    """Let parameters convert only what needs it, and return them."""
    for parameter in parameters:
        descriptor = getattr(parameter, "type_descriptor", None)
        # Without one it is another version of Typer's, which converts in another way.
        if descriptor is not None and not isinstance(parameter.get_runtime_param, Conversion):
            typers = parameter.get_runtime_param
            parameter.get_runtime_param = Conversion(typers, descriptor.annotation)
    return parameters
