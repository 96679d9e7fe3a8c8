"""The JSON schema of what a job returns, from the annotation of its code.

A job that is annotated to return a `TypedDict`, a dataclass or a `msgspec.Struct` documents its
result for people and programs. Others have no schema: whatever they return is stored.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLURAL = frozenset({"boolean", "integer", "list", "number", "object", "string"})  # with an s


def build_result_schema(target: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the JSON schema (draft 2020-12) of what a job's function or class returns.

    None if its annotation is missing, or says no more than ``dict``.
    """
    annotation = _find_return_type(target)
    if not _is_record(annotation):
        return None
    (schema,), components = msgspec.json.schema_components(
        [annotation], ref_template="#/$defs/{name}"
    )
    name = schema["$ref"].rpartition("/")[2]
    document = {"$schema": DIALECT, **components.pop(name)}
    if components:
        document["$defs"] = components
    parts = {name: document, **components}
    for record in _iterate_records(annotation):  # msgspec sorts the fields
        part = parts[record.__name__]
        part["properties"] = {
            field: part["properties"][field] for field in typing.get_type_hints(record)
        }
    for part in parts.values():
        if "description" in part:
            # The fields have descriptions of their own.
            part["description"] = inspect.cleandoc(part["description"]).partition("\n\n")[0]
    return document


def find_mismatch(target: Callable[..., Any], output: str, value: Any) -> str | None:
    """Return why a JSON value is not what a job's code declares to return; None if it is.

    ``output`` is that of a job with several, whose annotation has a field for each.
    """
    annotation = _find_return_type(target)
    if output:
        if not _is_record(annotation):
            return None
        annotation = typing.get_type_hints(annotation).get(output)
    if not _is_record(annotation):
        return None
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        return str(error)
    undeclared = sorted(value.keys() - typing.get_type_hints(annotation).keys())
    return f"it does not declare {', '.join(map(repr, undeclared))}" if undeclared else None


def iterate_fields(schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the type for people, and the description of each field of a result.

    The fields of an object follow it, with names such as ``summary.median_hz``, and those of the
    objects of a list with names such as ``segments[].start_s``.
    """
    yield from _iterate_fields(schema, "", schema.get("$defs", {}))


def _iterate_fields(
    record: dict[str, Any], prefix: str, records: dict[str, Any]
) -> Iterator[tuple[str, str, str]]:
    for name, part in record["properties"].items():
        yield prefix + name, _format_type(part), _find_description(part)
        for found, suffix in _find_records(part):
            if found in records:  # and not a record that contains itself
                inner = {key: one for key, one in records.items() if key != found}
                yield from _iterate_fields(records[found], f"{prefix}{name}{suffix}.", inner)


def _find_records(part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names of the records in a field, and by what its name is followed."""
    for one in part.get("anyOf", [part]):
        if "$ref" in one:
            yield one["$ref"].rpartition("/")[2], ""
        elif one.get("items"):
            for name, suffix in _find_records(one["items"]):
                yield name, "[]" + suffix


def _find_return_type(target: Callable[..., Any]) -> Any:
    many = getattr(target, "batch", None) if isinstance(target, type) else None
    function = many or (vars(target).get("__call__") if isinstance(target, type) else target)
    try:
        annotation = typing.get_type_hints(function, include_extras=True).get("return")
    except (TypeError, NameError):  # it names a type that is imported for type checkers only
        return None
    return typing.get_args(annotation)[0] if many and typing.get_args(annotation) else annotation


def _iterate_records(annotation: Any, seen: tuple[Any, ...] = ()) -> Iterator[type]:
    """Yield a type and those of its fields, at any depth, that have fields."""
    if annotation in seen:
        return
    fields: Iterable[Any] = typing.get_args(annotation)
    if _is_record(annotation):
        yield annotation
        fields = typing.get_type_hints(annotation).values()
    for field in fields:
        yield from _iterate_records(field, (*seen, annotation))


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and (
        typing.is_typeddict(annotation)
        or hasattr(annotation, "__dataclass_fields__")
        or issubclass(annotation, msgspec.Struct)
    )


def _format_type(part: dict[str, Any]) -> str:
    if "anyOf" in part:
        return " or ".join(_format_type(one) for one in part["anyOf"])
    if "enum" in part:
        return " or ".join(f'"{one}"' for one in part["enum"])
    if "$ref" in part:
        return "object"
    kind = str(part.get("type", "any")).replace("array", "list")
    if kind == "list" and part.get("items"):
        first, *rest = _format_type(part["items"]).split(" ")
        return " ".join(["list of", f"{first}s" if first in PLURAL else first, *rest])
    return kind


def _find_description(part: dict[str, Any]) -> str:
    if "description" in part:
        return str(part["description"])
    return next((d for one in part.get("anyOf", ()) if (d := _find_description(one))), "")
