"""Fair shares: how several sources fill one limited answer, so that a full one starves no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")


def turned(sources: Sequence[str], turn: int) -> list[str]:
    """Return the sources once each, beginning with another one each turn."""
    once = list(dict.fromkeys(sources))
    first = turn % len(once) if once else 0
    return once[first:] + once[:first]


def deal(
    sources: Sequence[str],
    limit: int,
    take: Callable[[Mapping[str, int]], Mapping[str, Sequence[T]]],
) -> list[T]:
    """Take up to ``limit`` things, of each source an equal share; what one lacks, others give.

    ``take`` is asked for so many of each of some sources; one that gives fewer has no more. What
    cannot be shared equally comes from the first sources.
    """
    dealt: list[T] = []
    giving = list(sources)
    while giving and len(dealt) < limit:
        share, more = divmod(limit - len(dealt), len(giving))
        shares = {s: share + (i < more) for i, s in enumerate(giving) if share or i < more}
        taken = take(shares)
        for source in shares:
            dealt += taken[source]
        next_first = giving[more:] + giving[:more]
        giving = [s for s in next_first if s not in shares or len(taken[s]) == shares[s]]
    return dealt
