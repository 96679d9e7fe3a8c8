"""Counts of the files that a run comes upon and passes over, since nothing is wanted of them.

They are not *left out*: those are files that were meant, and cannot be processed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from segue.model.criteria import Unselected


class PassedOver(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many files were passed over."""

    not_included: dict[str, int] = {}  # suffix → files whose names match no include pattern
    excluded: dict[str, int] = {}  # suffix → files whose names match an exclude pattern
    not_selected: dict[str, int] = {}  # reason, one of Unselected → files

    def __add__(self, other: PassedOver) -> PassedOver:
        return PassedOver(
            not_included=_add(self.not_included, other.not_included),
            excluded=_add(self.excluded, other.excluded),
            not_selected=_add(self.not_selected, other.not_selected),
        )

    @property
    def without_probe(self) -> int:
        """How many files have no probe to select them by."""
        return self.not_selected.get(Unselected.NO_PROBE, 0)

    @property
    def is_nothing_included(self) -> bool:
        """Whether there are files that match no pattern, and none that does."""
        return bool(self.not_included) and not self.not_selected


def _add(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {**(Counter(one) + Counter(other))}
