"""How two results of a job differ: field by field, for many files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue.codec.table_times import limit_times

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a field of one file's result differs."""

    field: str
    old: Any  # a number, text, or what else JSON has; of long values what is to be said of them
    new: Any
    # Of numbers the absolute difference, of lists and arrays of one shape the largest one; None of
    # what has none, such as text, null, or lists of different lengths.
    amount: float | None
    is_changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifferences:
    """How a field differs over all files."""

    field: str
    files: int
    changed: int
    old_mean: float | None  # of numbers
    new_mean: float | None
    median: float | None  # of the amounts of those that have one, changed or not
    p95: float | None
    largest: float | None


def compare_values(content_type: str, old: Any, new: Any) -> Iterator[Difference]:
    """Yield the fields of two values of a content type, in the order of the newer one."""
    if content_type == JSON:
        yield from _compare_fields(old, new, "")
    elif hasattr(new, "sr"):  # sound
        yield from _compare_fields(
            {"duration_s": old.duration_s, "sample_rate_hz": old.sr},
            {"duration_s": new.duration_s, "sample_rate_hz": new.sr},
            "",
        )
        yield _compare_arrays("samples", old.y, new.y)
    elif hasattr(new, "num_rows"):  # a table
        yield from _compare_fields(limit_times(old).to_pydict(), limit_times(new).to_pydict(), "")
    elif isinstance(new, Mapping):  # arrays
        for name in {**new, **old}:
            yield _compare_arrays(name, old.get(name), new.get(name))
    elif isinstance(new, bytes):
        told = [f"{len(data):,} bytes" for data in (old, new)]
        yield Difference(
            field="bytes", old=told[0], new=told[1], amount=None, is_changed=old != new
        )
    else:  # pixels
        yield _compare_arrays("pixels", old, new)


def sum_fields(differences: Sequence[Difference]) -> list[FieldDifferences]:
    """Return each field's differences over all files, in the order in which they come."""
    fields: dict[str, list[Difference]] = {}
    for difference in differences:
        fields.setdefault(difference.field, []).append(difference)
    return [_sum_field(field, found) for field, found in fields.items()]


def _sum_field(field: str, found: Sequence[Difference]) -> FieldDifferences:
    amounts = sorted(d.amount for d in found if d.amount is not None)
    numbers = [d for d in found if _is_number(d.old) and _is_number(d.new)]
    count = len(numbers)
    return FieldDifferences(
        field=field,
        files=len(found),
        changed=sum(d.is_changed for d in found),
        old_mean=math.fsum(d.old for d in numbers) / count if count else None,
        new_mean=math.fsum(d.new for d in numbers) / count if count else None,
        median=_find_quantile(amounts, 0.5),
        p95=_find_quantile(amounts, 0.95),
        largest=amounts[-1] if amounts else None,
    )


def _find_quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest number that at least this share of all does not exceed."""
    if not ordered:
        return None
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compare_fields(old: Any, new: Any, name: str) -> Iterator[Difference]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**new, **old}:
            inner = f"{name}.{key}" if name else str(key)
            yield from _compare_fields(old.get(key), new.get(key), inner)
    else:
        yield _compare_leaf(name or "(value)", old, new)


def _compare_leaf(name: str, old: Any, new: Any) -> Difference:
    amount = None
    is_changed = not _is_equal(old, new)
    if _is_number(old) and _is_number(new):
        amount = _find_largest([(old, new)])
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) == len(new) and all(map(_is_number, [*old, *new])):
            amount = _find_largest(zip(old, new, strict=True))
        old, new = (v if len(v) <= 3 else f"{len(v):,} values" for v in (old, new))
    told = [_tell(value) for value in (old, new)]
    return Difference(field=name, old=told[0], new=told[1], amount=amount, is_changed=is_changed)


def _tell(value: Any) -> Any:
    """Return a value as JSON has it: a number that is not finite as text."""
    if isinstance(value, list):
        return [_tell(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _tell(one) for key, one in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _is_equal(old: Any, new: Any) -> bool:
    """Whether two values are the same; NaN, which tables may have, equals itself."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_is_equal, old, new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(_is_equal(old[key], new[key]) for key in old)
    return bool(old == new or (old != old and new != new))  # noqa: PLR0124 - only NaN is not itself


def _find_largest(pairs: Iterable[tuple[float, float]]) -> float | None:
    """Return the largest absolute difference; None if one is unknown, as of NaN."""
    amounts = [0.0 if one == other else abs(float(other) - float(one)) for one, other in pairs]
    largest = max(amounts, default=0.0)
    return largest if all(map(math.isfinite, amounts)) else None


def _compare_arrays(
    name: str, old: NDArray[np.generic] | None, new: NDArray[np.generic] | None
) -> Difference:
    import numpy as np

    told = ["none" if a is None else " x ".join(map(str, a.shape)) for a in (old, new)]
    if old is None or new is None or old.shape != new.shape:
        return Difference(field=name, old=told[0], new=told[1], amount=None, is_changed=True)
    amount = None
    if new.dtype.kind in "biuf" and new.size:
        with np.errstate(invalid="ignore"):  # infinite values that are equal
            apart = np.abs(new.astype(np.float64) - old.astype(np.float64))
        amount = float(np.max(apart)) if np.isfinite(apart).all() else None
    same = np.array_equal(old, new, equal_nan=new.dtype.kind == "f")
    return Difference(field=name, old=told[0], new=told[1], amount=amount, is_changed=not same)
