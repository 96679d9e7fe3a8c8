"""What a job's code takes, held against what the graph gives it."""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from segue.model.graph import Fault, Job

Parameters = Mapping[str, inspect.Parameter]
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class _NotPlainError(Exception):
    """An annotation names a class of which no plain value can be told to be one."""


def misfits(target: Callable[..., Any], job: Job) -> Iterator[Fault]:
    """Say what a function or class does not take as the graph gives it."""
    if not isinstance(target, type):
        taken = _parameters(target)
        if taken is not None:
            yield from _inputs(job, taken)
            yield from _params(job, target, taken, besides=job.needs)
            yield from _required(job, taken, given=(*job.needs, *job.params))
        return
    if (taken := _parameters(target)) is not None:
        yield from _params(job, target, taken, besides=())
        yield from _required(job, taken, given=job.params)
    yield from _methods(target, job)


def _methods(target: type, job: Job) -> Iterator[Fault]:
    many = getattr(target, "batch", None)
    if any("__call__" in vars(c) for c in target.__mro__):
        if (taken := _method_parameters(target, "__call__")) is not None:
            yield from _inputs(job, taken)
            yield from _required(job, taken, given=job.needs)
    elif many is None:
        message = f"the class {job.run!r} has no __call__; write one that takes the inputs"
        yield Fault("run", message)
    if many is not None:
        size = getattr(target, "batch_size", 1)
        if not callable(many):
            yield Fault("run", f"{job.run}.batch is not a method; it takes a list of inputs")
        elif isinstance(size, int) and size < 1:
            yield Fault("run", f"{job.run}.batch_size is {size}; it is a whole number from 1")
    if hasattr(target, "setup"):
        yield from _setup(target, job)


def _setup(target: type, job: Job) -> Iterator[Fault]:
    if not callable(getattr(target, "setup", None)):
        yield Fault("run", f"{job.run}.setup is not a method; it takes nothing, and is called once")
        return
    for name, parameter in (_method_parameters(target, "setup") or {}).items():
        if _is_required(parameter):
            remedy = "take it in the constructor, where the graph's params go"
            yield Fault("run", f"{job.run}.setup wants {name!r}, but gets nothing; {remedy}")


def _inputs(job: Job, taken: Parameters) -> Iterator[Fault]:
    for name in job.needs:
        if name in job.params:
            yield Fault(f"needs.{name}", f"{name!r} is a parameter, too; rename one of them")
        elif (found := taken.get(name)) is not None and found.kind in NAMED:
            continue
        elif found is not None and found.kind is inspect.Parameter.POSITIONAL_ONLY:
            yield Fault(
                f"needs.{name}", f"{job.run!r} takes {name!r} only by position; drop the '/'"
            )
        elif not _takes_any(taken):
            yield Fault(
                f"needs.{name}", f"{job.run!r} takes no input {name!r}{_guess(name, taken)}"
            )


def _params(
    job: Job, target: Callable[..., Any], taken: Parameters, *, besides: Iterable[str]
) -> Iterator[Fault]:
    mine = {n: p for n, p in taken.items() if n not in besides}
    for name, value in job.params.items():
        found = mine.get(name)
        if found is None or found.kind not in NAMED:
            if not _takes_any(taken) and name not in besides:
                yield Fault(
                    f"params.{name}", f"{job.run!r} takes no parameter {name!r}{_guess(name, mine)}"
                )
            continue
        try:
            _convert(target, name, value)
        except msgspec.ValidationError as error:
            said = str(error).replace("`", "").replace("Expected", "expected")
            kind = _written(found.annotation)
            message = f"{value!r} is not what {job.run!r} takes ({said}); write {kind}"
            yield Fault(f"params.{name}", message)


def _required(job: Job, taken: Parameters, *, given: Iterable[str]) -> Iterator[Fault]:
    given = set(given)
    for name, parameter in taken.items():
        if name not in given and _is_required(parameter):
            message = (
                f"{job.run!r} requires {name!r}, which nobody gives; add it to params or needs"
            )
            yield Fault("run", message)


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variadic


def _takes_any(taken: Parameters) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())


def _parameters(target: Callable[..., Any]) -> Parameters | None:
    """The parameters of a callable; None if Python cannot tell."""
    try:
        return inspect.signature(target).parameters
    except (ValueError, TypeError):
        return None


def _method_parameters(target: type, name: str) -> Parameters | None:
    """The parameters of a method as an instance is called with them."""
    found = _parameters(getattr(target, name))
    if found is None or isinstance(
        inspect.getattr_static(target, name), staticmethod | classmethod
    ):
        return found
    first = next(iter(found.values()), None)
    if first is None or first.kind is inspect.Parameter.VAR_POSITIONAL:
        return found
    return {n: p for n, p in found.items() if p is not first}


def converted(target: Callable[..., Any], name: str, value: Any) -> Any:
    """Return a parameter as its annotation says: a list as a tuple, say, or 1 as 1.0."""
    try:
        return _convert(target, name, value)
    except msgspec.ValidationError:
        return value  # check() tells of it


def _convert(target: Callable[..., Any], name: str, value: Any) -> Any:
    taken = _parameters(target)
    if taken is None or name not in taken:
        return value
    wanted = _annotation(target, taken[name].annotation)
    if wanted is inspect.Parameter.empty:
        return value
    try:
        return msgspec.convert(value, wanted, strict=True, dec_hook=_refuse)
    except (TypeError, _NotPlainError):  # not a type that plain values can be converted to
        return value


def _refuse(_wanted: type, _value: object) -> Any:
    raise _NotPlainError


def _annotation(target: Callable[..., Any], written: Any) -> Any:
    """Resolve one annotation; ``empty`` if it names what exists for type checkers only."""
    if written is inspect.Parameter.empty:
        return written
    while isinstance(target, functools.partial):
        target = target.func
    bare = inspect.unwrap(target)
    module = sys.modules.get(getattr(bare, "__module__", ""))
    space = getattr(bare, "__globals__", None) or (vars(module) if module else {})
    carrier = type("_Carrier", (), {"__annotations__": {"it": written}})
    try:
        return typing.get_type_hints(carrier, globalns=dict(space), include_extras=True)["it"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return inspect.Parameter.empty


def _written(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _guess(word: str, known: Iterable[str]) -> str:
    names = [n for n in known if n != "self"]
    close = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; it takes {', '.join(names) or 'none'}"
