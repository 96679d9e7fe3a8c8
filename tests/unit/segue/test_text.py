"""Values as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from segue import text


@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 * 2**30, "5.0 GiB"),
        (2**60, "1024.0 PiB"),
    ],
)
def test_sizes_are_in_binary_units(size_bytes, said):
    assert text.format_size(size_bytes) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0123, "12 ms"),
        (1.25, "1.2 s"),
        (59.94, "59.9 s"),
        (61, "1 min 01 s"),
        (3599.6, "1 h 00 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_in_the_two_units_that_matter(seconds, said):
    assert text.format_duration(seconds) == said


@given(some.integers(1, 10**9), some.integers(0, 10**9))
def test_only_all_is_100_percent_and_only_nothing_is_0(whole, part):
    part = min(part, whole)
    said = text.format_percent(part, whole)
    assert (said == "100 %") == (part == whole)
    assert (said == "0 %") == (part == 0)


def test_a_share_of_nothing_is_no_number():
    assert text.format_percent(0, 0) == "-"


def test_counts_agree_with_their_nouns():
    assert text.format_count(1, "file") == "1 file"
    assert text.format_count(1200, "file") == "1,200 files"
    assert text.format_count(2, "entry", "entries") == "2 entries"
