"""What the return annotation of a job's code says about its results."""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

from segue.model.graph import Fault, Job
from segue.model.signature import resolve_annotation

JSON = "application/json"
FILE_TYPES = ("application/octet-stream", "audio/midi", "image/png", "image/jpeg")
NULL = "annotate the return type with '| None', as in '-> dict | None', if null is a result"


def find_wrong_results(target: Callable[..., Any], job: Job) -> Iterator[Fault]:
    """Yield a fault if a job's code is annotated to return what no artifact can hold."""
    annotation = _find_annotation(target)
    kind = resolve_annotation(target, annotation)
    if annotation == "None" or kind is types.NoneType:
        message = f"{job.run!r} is annotated to return nothing, and the job writes a result"
        yield Fault("run", f"{message}: return one; {NULL}")
    only = job.outputs.get("")
    if isinstance(kind, type) and issubclass(kind, PurePath) and only not in (None, *FILE_TYPES):
        message = f"{job.run!r} returns a path, and {only} holds values"
        yield Fault("writes", f"{message}: write one of {', '.join(FILE_TYPES)}")


def may_return_null(target: Callable[..., Any]) -> bool:
    """Return whether the annotation says that None is a result, as ``dict | None`` does.

    Of a method ``batch``, it is that of an item, as in ``list[dict | None]``.
    """
    annotation = _find_annotation(target)
    kind = resolve_annotation(target, annotation)
    kind = _resolve_alias(kind)
    is_batch = isinstance(target, type) and hasattr(target, "batch")
    if kind is inspect.Signature.empty:  # a name that only type checkers see
        return isinstance(annotation, str) and _names_null(annotation, is_batch=is_batch)
    if is_batch:
        kind = next(iter(typing.get_args(kind)), None)
    return _includes_none(kind)


def _find_annotation(target: Callable[..., Any]) -> Any:
    """Return what a function, or the method of a class that processes files, returns."""
    called: Any = target
    if isinstance(target, type):
        calls = (vars(c)["__call__"] for c in target.__mro__ if "__call__" in vars(c))
        called = getattr(target, "batch", None) or next(calls, None)
    try:
        return inspect.signature(called).return_annotation
    except (ValueError, TypeError):
        return inspect.Signature.empty


def _resolve_alias(kind: Any) -> Any:
    """Return what a statement such as ``type Answer = dict | None`` of Python 3.12 names."""
    while type(kind).__name__ == "TypeAliasType":
        kind = kind.__value__
    return kind


def _includes_none(kind: Any) -> bool:
    kind = _resolve_alias(kind)
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _includes_none(typing.get_args(kind)[0])
    if origin is typing.Literal:
        return None in typing.get_args(kind)
    is_union = origin is typing.Union or origin is types.UnionType
    return is_union and types.NoneType in typing.get_args(kind)


def _names_null(annotation: str, *, is_batch: bool) -> bool:
    try:
        node = ast.parse(annotation, mode="eval").body
    except SyntaxError:
        return False
    if is_batch:
        return isinstance(node, ast.Subscript) and _is_optional(node.slice)
    return _is_optional(node)


def _is_optional(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return any(_is_none(each) or _is_optional(each) for each in (node.left, node.right))
    if not isinstance(node, ast.Subscript):
        return False
    name = ast.unparse(node.value).rpartition(".")[2]
    members = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return name == "Optional" or (name == "Union" and any(map(_is_none, members)))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
