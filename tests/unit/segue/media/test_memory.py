"""The refusal of work that needs more memory than there is."""

from __future__ import annotations

import pytest

from segue.errors import TooLarge
from segue.media.memory import format_duration, require_memory


def test_what_does_not_fit_is_refused_with_the_remedy(bound_memory):
    bound_memory(0.5)
    require_memory(0.3 * 2**30, "beats of 3.0 hours")
    with pytest.raises(
        TooLarge,
        match=r"^beats of 3.0 hours needs up to 0.75 GiB of memory, and the job's bound leaves "
        r"0\.[45]\d: raise its resources.memory_gib to 2, or cut the file into parts$",
    ):
        require_memory(0.75 * 2**30, "beats of 3.0 hours")


def test_without_a_bound_anything_fits():
    require_memory(2.0**60, "beats of a century")


@pytest.mark.parametrize(
    ("duration_s", "text"), [(0.25, "0.2 s"), (3599.0, "3599.0 s"), (10_800.0, "3.0 hours")]
)
def test_durations_are_for_people(duration_s, text):
    assert format_duration(duration_s) == text
