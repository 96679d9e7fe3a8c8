"""Fair shares: how several sources fill one limited answer, so that a full one starves no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


def turned(sources: Sequence[str], turn: int) -> list[str]:
    """Return the sources once each, beginning with another one each turn."""
    once = list(dict.fromkeys(sources))
    first = turn % len(once) if once else 0
    return once[first:] + once[:first]


def deal(sources: Sequence[str], limit: int, take: Callable[[str, int], Sequence[T]]) -> list[T]:
    """Take ``limit`` things, of each source an equal share; what one lacks, the others give.

    ``take(source, count)`` hands over up to so many; one that hands over fewer has no more. What
    is left over when shares are equal comes from the first sources.
    """
    dealt: list[T] = []
    giving = list(sources)
    while giving and len(dealt) < limit:
        share = max(1, (limit - len(dealt)) // len(giving))
        still = []
        for source in giving:
            count = min(share, limit - len(dealt))
            if not count:
                break
            taken = take(source, count)
            dealt += taken
            if len(taken) == count:
                still.append(source)
        giving = still
    return dealt
