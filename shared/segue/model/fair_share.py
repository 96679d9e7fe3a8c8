"""Fair shares: how several sources fill one limited answer, so that a full one starves no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")


def rotate(sources: Sequence[str], turn: int) -> list[str]:
    """Return each source once, starting with another one each turn."""
    once = list(dict.fromkeys(sources))
    first = turn % len(once) if once else 0
    return once[first:] + once[:first]


def take_fair_shares(
    sources: Sequence[str],
    limit: int,
    take: Callable[[Mapping[str, int]], Mapping[str, Sequence[T]]],
) -> list[T]:
    """Take up to ``limit`` items in equal shares, and more from the others where one runs out.

    ``take`` gets a number for each of some sources; a source that returns fewer is empty. A
    remainder that cannot be shared equally comes from the first sources.
    """
    items: list[T] = []
    left = list(sources)
    while left and len(items) < limit:
        share, more = divmod(limit - len(items), len(left))
        shares = {s: share + (i < more) for i, s in enumerate(left) if share or i < more}
        taken = take(shares)
        for source in shares:
            items += taken[source]
        next_first = left[more:] + left[:more]
        left = [s for s in next_first if s not in shares or len(taken[s]) == shares[s]]
    return items
