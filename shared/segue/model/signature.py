"""Checks the signature of a job's code against the inputs and parameters of the graph."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import msgspec

from segue.errors import suggest
from segue.model.graph import SOURCE, Fault, Job
from segue.model.model_entry import REFERENCE

Parameters = Mapping[str, inspect.Parameter]
AUDIO, MEDIA = "segue.media.audio.Audio", "segue.media.audio.Media"
AUDIO_TYPES = ("audio/flac", "audio/wav")
REMEDIES = {
    AUDIO: "let it need a job that writes audio/flac or audio/wav, such as one that runs "
    "segue.features.resampling:downsample, or annotate what it gets",
    MEDIA: f"let it need {SOURCE!r}, or annotate what it gets",
}
MAX_BATCH_WAIT_S = 600.0  # well within a lease
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class _NotPlainError(Exception):
    """An annotation names a class that no plain value can be checked against."""


def find_mismatches(target: Callable[..., Any], job: Job) -> Iterator[Fault]:
    """Yield a fault for each input or parameter that a function or class does not take."""
    taken = _find_parameters(target)
    if isinstance(target, type):
        if taken is not None:
            yield from _check_params(job, target, taken, besides=())
            yield from _check_secrets(job, target, taken)
            yield from _check_required(job, taken, given=(*job.params, *job.secrets))
        yield from _check_methods(target, job)
    elif taken is not None:
        yield from _check_inputs(job, taken)
        yield from _check_params(job, target, taken, besides=job.needs)
        yield from _check_secrets(job, target, taken)
        yield from _check_required(job, taken, given=(*job.needs, *job.params, *job.secrets))


def find_wrong_types(
    target: Callable[..., Any], job: Job, kinds: Mapping[str, str]
) -> Iterator[Fault]:
    """Yield a fault for each input that is annotated as another type than it has.

    ``kinds`` has the content types of the inputs, and ``SOURCE`` for the media file itself. Only
    annotations as exactly `segue.Audio` or `segue.Media` say enough.
    """
    if isinstance(target, type):
        taken = _find_method_parameters(target, "__call__")
    else:
        taken = _find_parameters(target)
    for name, kind in kinds.items():
        if taken is None or name not in taken:
            continue
        annotation = resolve_annotation(target, taken[name].annotation)
        wanted = f"{getattr(annotation, '__module__', '')}.{getattr(annotation, '__name__', '')}"
        given = MEDIA if kind == SOURCE else AUDIO if kind in AUDIO_TYPES else ""
        if wanted in REMEDIES and wanted != given:
            what = "the media file" if kind == SOURCE else f"what is read from {kind}"
            message = f"{job.run!r} takes {name!r} as {wanted.rpartition('.')[2]}, and gets {what}"
            yield Fault(f"needs.{name}", f"{message}; {REMEDIES[wanted]}")


def _check_methods(target: type, job: Job) -> Iterator[Fault]:
    many = getattr(target, "batch", None)
    if any("__call__" in vars(c) for c in target.__mro__):
        if (taken := _find_method_parameters(target, "__call__")) is not None:
            yield from _check_inputs(job, taken)
            yield from _check_required(job, taken, given=job.needs)
    elif many is None:
        message = f"the class {job.run!r} has no __call__; write one that takes the inputs"
        yield Fault("run", message)
    if many is not None:
        if not callable(many):
            yield Fault("run", f"{job.run}.batch is not a method; it takes a list of inputs")
        else:
            yield from _check_batching(target, job)
    if hasattr(target, "setup"):
        yield from _check_setup(target, job)


def _check_batching(target: type, job: Job) -> Iterator[Fault]:
    """Yield a fault for each attribute of the class that says nothing of how to make batches.

    They are read from the class, before there is an instance.
    """
    size = getattr(target, "batch_size", 1)
    if not is_batch_size(size):
        rule = "it must be a whole number from 1, as an attribute of the class"
        yield Fault("run", f"{job.run}.batch_size is {size!r}; {rule}")
    wait_s = getattr(target, "batch_wait_s", 0)
    if not is_batch_wait(wait_s):
        rule = f"it must be a number of seconds from 0 to {MAX_BATCH_WAIT_S:g}"
        yield Fault("run", f"{job.run}.batch_wait_s is {wait_s!r}; {rule}")


def is_batch_size(value: Any) -> bool:
    """Return whether a value can be the size of a batch."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_batch_wait(value: Any) -> bool:
    """Return whether a value can be the time that a batch waits for files, in seconds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= MAX_BATCH_WAIT_S


def _check_setup(target: Any, job: Job) -> Iterator[Fault]:
    if not callable(target.setup):
        rule = "it takes no arguments and is called once"
        yield Fault("run", f"{job.run}.setup is not a method; {rule}")
        return
    for name, parameter in (_find_method_parameters(target, "setup") or {}).items():
        if _is_required(parameter):
            rule = f"requires {name!r}, but is called without arguments"
            remedy = "take it in the constructor, where the graph's params go"
            yield Fault("run", f"{job.run}.setup {rule}; {remedy}")


def _check_inputs(job: Job, taken: Parameters) -> Iterator[Fault]:
    for name in job.needs:
        if name in job.params:
            yield Fault(f"needs.{name}", f"{name!r} is a parameter, too; rename one of them")
        elif (found := taken.get(name)) is not None and found.kind in NAMED:
            continue
        elif found is not None and found.kind is inspect.Parameter.POSITIONAL_ONLY:
            message = f"{job.run!r} takes {name!r} only by position; remove the '/'"
            yield Fault(f"needs.{name}", message)
        elif not _takes_any(taken):
            message = f"{job.run!r} takes no input {name!r}; {suggest(name, taken)}"
            yield Fault(f"needs.{name}", message)


def _check_params(
    job: Job, target: Callable[..., Any], taken: Parameters, *, besides: Iterable[str]
) -> Iterator[Fault]:
    mine = {n: p for n, p in taken.items() if n not in besides}
    yield from _check_defaults(job, mine)
    for name, value in job.params.items():
        found = mine.get(name)
        if found is None or found.kind not in NAMED:
            if not _takes_any(taken) and name not in besides:
                message = f"{job.run!r} takes no parameter {name!r}; {suggest(name, mine)}"
                yield Fault(f"params.{name}", message)
            continue
        try:
            _convert(target, name, value)
        except msgspec.ValidationError as error:
            rule = str(error).replace("`", "").replace("Expected", "expected")
            kind = found.annotation
            if not isinstance(kind, str):
                kind = inspect.formatannotation(kind)
            message = f"{value!r} is not what {job.run!r} takes ({rule}); write {kind}"
            yield Fault(f"params.{name}", message)


def _check_secrets(job: Job, target: Callable[..., Any], taken: Parameters) -> Iterator[Fault]:
    for name in job.secrets:
        found = taken.get(name)
        if found is None or found.kind not in NAMED:
            if not _takes_any(taken):
                message = f"{job.run!r} takes no parameter {name!r}; {suggest(name, taken)}"
                yield Fault(f"secrets.{name}", message)
            continue
        try:
            _convert(target, name, "text")
        except msgspec.ValidationError:
            message = f"{job.run!r} does not take {name!r} as text, which a secret is; write str"
            yield Fault(f"secrets.{name}", message)


def _check_defaults(job: Job, taken: Parameters) -> Iterator[Fault]:
    """Yield a fault for each default that names a model: only the graph's parameters get paths."""
    for name, parameter in taken.items():
        default = parameter.default
        if name in job.params or not isinstance(default, str | PurePath):
            continue
        if REFERENCE.fullmatch(str(default)):
            rule = f"{job.run!r} has the name of a model, '{default}', as its default"
            remedy = f"write {{{name}: {default}}} here, which also makes it part of the result"
            yield Fault(f"params.{name}", f"{rule}; {remedy}")


def _check_required(job: Job, taken: Parameters, *, given: Iterable[str]) -> Iterator[Fault]:
    given = set(given)
    for name, parameter in taken.items():
        if name not in given and _is_required(parameter):
            rule = f"requires {name!r}, which is not given"
            yield Fault("run", f"{job.run!r} {rule}; add it to params, needs or secrets")


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variadic


def _takes_any(taken: Parameters) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())


def _find_parameters(target: Callable[..., Any]) -> Parameters | None:
    """Return the parameters of a callable; None if Python does not know them."""
    try:
        return inspect.signature(target).parameters
    except (ValueError, TypeError):
        return None


def _find_method_parameters(target: type, name: str) -> Parameters | None:
    """Return the parameters of a method as callers of an instance see them."""
    try:
        bound = inspect.getattr_static(target, name).__get__(object(), target)
    except (AttributeError, TypeError):  # not a method that is written in Python
        return None
    return _find_parameters(bound)


def convert_parameter(target: Callable[..., Any], name: str, value: Any) -> Any:
    """Convert a parameter to its annotated type: a list to a tuple, say, or 1 to 1.0."""
    try:
        return _convert(target, name, value)
    except msgspec.ValidationError:
        return value  # check_code reports it


def takes_text(target: Callable[..., Any], name: str) -> bool:
    """Whether a parameter is annotated as text, and not as a path as well."""
    taken = _find_parameters(target)
    if taken is None or name not in taken:
        return False
    kind = resolve_annotation(target, taken[name].annotation)
    return kind is str or set(typing.get_args(kind)) == {str, type(None)}


def _convert(target: Callable[..., Any], name: str, value: Any) -> Any:
    taken = _find_parameters(target)
    if taken is None or name not in taken:
        return value
    kind = resolve_annotation(target, taken[name].annotation)
    if kind is inspect.Parameter.empty:
        return value
    try:
        return msgspec.convert(value, kind, strict=True, dec_hook=_refuse)
    except (TypeError, _NotPlainError):  # not a type that plain values can be converted to
        return value


def _refuse(_wanted: type, _value: object) -> Any:
    raise _NotPlainError


def resolve_annotation(target: Callable[..., Any], annotation: Any) -> Any:
    """Resolve an annotation; return ``empty`` if it names what only type checkers see."""
    if annotation is inspect.Parameter.empty:
        return annotation
    while isinstance(target, functools.partial):
        target = target.func
    bare = inspect.unwrap(target)
    module = sys.modules.get(getattr(bare, "__module__", ""))
    carrier = type("_Carrier", (), {"__annotations__": {"it": annotation}})
    space = dict(vars(module)) if module else {}
    try:
        return typing.get_type_hints(carrier, globalns=space, include_extras=True)["it"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return inspect.Parameter.empty
