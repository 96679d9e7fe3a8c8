"""What return annotations say, when a graph is checked and when a job has returned nothing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union

import pytest
from typing_extensions import TypeAliasType

from segue.model.graph import parse_graph
from segue.model.return_type import find_wrong_results, may_return_null

if TYPE_CHECKING:
    from nowhere import Hidden

Maybe = dict[str, float] | None
# What a statement "type" is in Python 3.12.
Statement = TypeAliasType("Statement", dict[str, float] | None)
Inner = TypeAliasType("Inner", float | None)
Many = TypeAliasType("Many", list[Inner])


def no_annotation(media): ...
def nothing(media) -> None: ...
def anything(media) -> Any: ...
def within(media) -> dict[str, float | None]: ...
def hidden_within(media) -> list[Hidden | None]: ...
def hidden(media) -> Hidden | None: ...
def hidden_optional(media) -> Optional[Hidden]: ...  # noqa: UP045 - what is tested
def hidden_union(media) -> Union[None, Hidden]: ...  # noqa: UP007, RUF036 - what is tested
def hidden_three(media) -> Hidden | int | None: ...
def union(media) -> float | None: ...
def optional(media) -> Optional[float]: ...  # noqa: UP045 - what is tested
def alias(media) -> Maybe: ...
def statement(media) -> Statement: ...
def annotated(media) -> Annotated[float | None, "dB"]: ...
def literal(media) -> Literal["major", "minor", None]: ...  # noqa: PYI061 - what is tested
def path(media) -> Path: ...


@functools.wraps(union)
def wrapped(*args, **options): ...


class Called:
    def __call__(self, media) -> float | None: ...


class Batch:
    def __call__(self, media) -> float | None: ...
    def batch(self, inputs) -> list[float]: ...


class BatchOfNull:
    def batch(self, inputs) -> Sequence[float | None]: ...


class BatchOfStatement:
    def batch(self, inputs) -> Many: ...


class BatchOfHidden:
    def batch(self, inputs) -> list[Hidden | None]: ...


class BatchOfNothing:
    def batch(self, inputs) -> None: ...


@pytest.mark.parametrize(
    "target",
    [
        *(statement, literal, BatchOfStatement),
        *(union, optional, alias, annotated, wrapped, functools.partial(union, 1)),
        *(hidden, hidden_optional, hidden_union, hidden_three),
        *(Called, BatchOfNull, BatchOfHidden),
    ],
)
def test_null_is_a_result_of(target):
    assert may_return_null(target)


@pytest.mark.parametrize(
    "target",
    [
        *(no_annotation, nothing, anything, within, hidden_within, path, len, print, dict),
        *(Batch, BatchOfNothing, object),
    ],
)
def test_null_is_no_result_of(target):
    assert not may_return_null(target)


def find(target, writes="application/json"):
    job = f"{{run: 'm:f', needs: {{media: source}}, writes: {writes}}}"
    graph = parse_graph(f"jobs: {{job: {job}}}")
    return [(f.place, f.message) for f in find_wrong_results(target, graph.jobs["job"])]


@pytest.mark.parametrize("target", [nothing, BatchOfNothing])
def test_a_job_that_says_it_returns_nothing_is_refused(target):
    message = "'m:f' is annotated to return nothing, and the job writes a result: return one; "
    [(place, found)] = find(target)
    assert place == "run"
    assert found.startswith(message)
    assert find(target, "audio/flac")


def test_a_path_is_refused_as_a_value():
    [(place, message)] = find(path)
    assert place == "writes"
    assert message.startswith("'m:f' returns a path, and application/json holds values: write one")
    assert find(path, "image/png") == find(path, "{a: image/png, b: application/json}") == []


@pytest.mark.parametrize("target", [no_annotation, union, anything, hidden, len, Called, Batch])
def test_others_are_not(target):
    assert find(target) == []
