"""What a job returns is described by a JSON schema, if its annotation says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import pytest
from msgspec import Meta, Struct

from segue.model.result_schema import build_result_schema, iterate_fields


class Part(TypedDict):
    """A part."""

    start_s: float
    end_s: float


class Tree(TypedDict):
    """A node."""

    name: str
    below: list[Tree] | None


class Forest(TypedDict):
    """Trees."""

    trees: list[Tree]


class Whole(TypedDict):
    """A whole.

    More about it.
    """

    zeal: Annotated[float, Meta(description="from 0 to 1", ge=0, le=1)]
    parts: Annotated[list[Part], Meta(description="in order")]
    key: Annotated[str | None, Meta(description="or null")]
    mode: Literal["major", "minor"]


@dataclass
class Data:
    """Data."""

    n: int = 0


class Record(Struct):
    """A record."""

    n: int


def compute(media: Any) -> Whole: ...


def grow(media: Any) -> Forest: ...


class Batches:
    def batch(self, inputs: list[Any]) -> list[Whole]: ...


class Single:
    def __call__(self, media: Any) -> Data: ...


def describe(media: Any) -> Record: ...


def untyped(media): ...


def vague(media: Any) -> dict[str, Any]: ...


def hidden(media: Any) -> NotImportedHere: ...  # noqa: F821 - what type checkers alone know


def test_a_schema_has_the_fields_in_their_order_with_types_and_meanings():
    schema = build_result_schema(compute)
    assert list(schema["properties"]) == ["zeal", "parts", "key", "mode"]
    assert schema["title"] == "Whole"
    assert schema["description"] == "A whole."
    assert sorted(schema["required"]) == ["key", "mode", "parts", "zeal"]
    assert list(schema["$defs"]["Part"]["properties"]) == ["start_s", "end_s"]
    assert list(iterate_fields(schema)) == [
        ("zeal", "number", "from 0 to 1"),
        ("parts", "list of objects", "in order"),
        ("parts[].start_s", "number", ""),
        ("parts[].end_s", "number", ""),
        ("key", "string or null", "or null"),
        ("mode", '"major" or "minor"', ""),
    ]


@pytest.mark.parametrize(
    ("target", "title"), [(Batches, "Whole"), (Single, "Data"), (describe, "Record")]
)
def test_classes_and_other_records_are_described_too(target, title):
    assert build_result_schema(target)["title"] == title


@pytest.mark.parametrize("target", [untyped, vague, hidden, len])
def test_a_job_that_says_no_more_has_no_schema(target):
    assert build_result_schema(target) is None


def test_a_record_that_contains_itself_is_described_once():
    fields = list(iterate_fields(build_result_schema(grow)))
    inner = ["trees[].name", "trees[].below"]
    assert [name for name, _, _ in fields] == ["trees", *inner]
