"""Turns a job of the graph into something callable, and checks its code against the graph."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from segue.errors import ConfigurationError, suggest
from segue.extras import MissingExtra
from segue.model.graph import SOURCE, Fault, Graph, GraphError, Job
from segue.model.return_type import find_wrong_results, may_return_null
from segue.model.signature import (
    convert_parameter,
    find_mismatches,
    find_wrong_types,
    is_batch_size,
    is_batch_wait,
    takes_text,
)

DEFAULT_BATCH_SIZE = 16
DEFAULT_BATCH_WAIT_S = 1.0

Inputs = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """The callables that are built from a job's code and parameters."""

    call: Callable[[Inputs], Any]
    batch: Callable[[Sequence[Inputs]], Any] | None = None  # many inputs in, as many values out
    batch_size: int = DEFAULT_BATCH_SIZE
    setup: Callable[[], object] | None = None  # to be called once, before the first file
    may_return_null: bool = False  # its code says that None is a result


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How the files of a job that takes batches are collected."""

    size: int  # how many files a batch has at most
    wait_s: float  # how long the first one waits for others


def find_batching(target: Any) -> Batching | None:
    """Return how the files of a class are collected; None if it takes one at a time."""
    if not isinstance(target, type) or getattr(target, "batch", None) is None:
        return None
    size = getattr(target, "batch_size", DEFAULT_BATCH_SIZE)
    wait_s = getattr(target, "batch_wait_s", DEFAULT_BATCH_WAIT_S)
    return Batching(
        size=size if is_batch_size(size) else DEFAULT_BATCH_SIZE,
        wait_s=wait_s if is_batch_wait(wait_s) else DEFAULT_BATCH_WAIT_S,
    )


def make_importable(graph: Graph) -> None:
    """Put the folder of the graph's file last on Python's path: no file there hides a module.

    A folder that is a package is left out: its modules have full names.
    """
    if graph.path is None:
        return
    folder = os.path.dirname(os.path.abspath(graph.path))
    if folder not in sys.path and not os.path.exists(os.path.join(folder, "__init__.py")):
        sys.path.append(folder)
        importlib.invalidate_caches()


def build(
    job: Job,
    models: Mapping[str, str] = MappingProxyType({}),
    secrets: Mapping[str, str] = MappingProxyType({}),
) -> Runner:
    """Import a job and set its parameters; exceptions of its own code propagate.

    ``models`` has the paths of the models that its parameters name, and ``secrets`` the values of
    its secrets, by parameter.
    """
    target = find_callable(job.run)
    params = {name: convert_parameter(target, name, value) for name, value in job.params.items()}
    for name, path in models.items():
        params[name] = path if takes_text(target, name) else Path(path)
    params |= secrets
    null = may_return_null(target)
    if not isinstance(target, type):
        return Runner(call=lambda inputs: target(**inputs, **params), may_return_null=null)
    instance = target(**params)
    setup = getattr(instance, "setup", None)
    batching = find_batching(target)
    if batching is None:  # whatever the instance has: the pool knows only the class
        return Runner(call=lambda inputs: instance(**inputs), setup=setup, may_return_null=null)
    many = instance.batch
    # One file takes the same path as many, so that it gives the same bytes.
    return Runner(
        call=lambda inputs: _unpack_single(many([inputs])),
        batch=many,
        batch_size=batching.size,
        setup=setup,
        may_return_null=null,
    )


def _unpack_single(values: Sequence[Any]) -> Any:
    if not isinstance(values, list | tuple) or len(values) != 1:
        raise TypeError(
            f"batch() returned {_abbreviate(values)} for a list of 1; return one value per input"
        )
    return values[0]


def find_callable(run: str) -> Any:
    """Import the callable ``module:name``, or raise ``ConfigurationError`` with the reason."""
    module_name, _, name = run.partition(":")
    module = _import_module(module_name)
    if not hasattr(module, name):
        known = [
            n for n, v in vars(module).items() if getattr(v, "__module__", None) == module_name
        ]
        hint = suggest(name, known)
        place = getattr(module, "__file__", None) or "built into Python"
        raise ConfigurationError(f"{module_name!r} ({place}) has no callable {name!r}; {hint}")
    target = getattr(module, name)
    if not callable(target):
        raise ConfigurationError(
            f"{run!r} is of type {type(target).__name__}, which cannot be called; "
            "name a function or a class"
        )
    return target


def _import_module(name: str) -> ModuleType:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of any result
            return importlib.import_module(name)
    except MissingExtra:
        raise
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        if isinstance(error, ModuleNotFoundError) and _is_in_package(error.name, name):
            remedy = "install its package, or put the module beside the graph's file"
            raise ConfigurationError(f"there is no module {error.name!r}; {remedy}") from error
        raise ConfigurationError(
            f"the module {name!r} cannot be imported ({type(error).__name__}: {error}); "
            "fix it, or install what it needs"
        ) from error


def _is_in_package(missing: str | None, name: str) -> bool:
    return missing is not None and (name == missing or name.startswith(f"{missing}."))


def check_code(graph: Graph) -> None:
    """Import every job and check its code against the graph, reporting all faults at once.

    Raises
    ------
    GraphError
        If a job cannot be imported or called, does not take the inputs and parameters that the
        graph gives it, has annotated an input as `segue.Audio` or `segue.Media` that is none, or is
        annotated to return nothing.
    """
    make_importable(graph)
    faults: list[Fault] = []
    for job in graph.jobs.values():
        place = f"jobs.{job.name}"
        try:
            target = find_callable(job.run)
        except ConfigurationError as error:
            faults.append(Fault(f"{place}.run", str(error)))
        else:
            found = [
                *find_mismatches(target, job),
                *find_wrong_types(target, job, _find_kinds(graph, job)),
                *find_wrong_results(target, job),
            ]
            faults += [Fault(f"{place}.{f.place}", f.message) for f in found]
    if faults:
        raise GraphError(graph.path or "the graph", faults)


def _find_kinds(graph: Graph, job: Job) -> dict[str, str]:
    """Return the content type of each input, and ``SOURCE`` for a media file."""
    return {
        name: SOURCE if need.rpartition("/")[2] == SOURCE else graph.find_content_type(need)
        for name, need in job.needs.items()
    }


def _abbreviate(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
