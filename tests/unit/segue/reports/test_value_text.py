"""Values as tables and sparklines."""

from __future__ import annotations

import pytest

from segue.reports.value_text import BLOCKS, draw_sparkline, format_value


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        (range(8), BLOCKS),
        (range(7, -1, -1), BLOCKS[::-1]),
        ([1.0, 1.0], "▁▁"),
        ([0.0, None, 1.0, float("nan")], "▁ █ "),
        ([None, None], "  "),
        ([], ""),
    ],
)
def test_a_sparkline_goes_from_the_lowest_to_the_highest(values, drawn):
    assert draw_sparkline(list(values)) == drawn


@pytest.mark.parametrize("least", [5e-324, 1e-310, 1e-300])
def test_a_sparkline_holds_the_smallest_numbers(least):
    assert draw_sparkline([0.0, least])[0] == BLOCKS[0]
    assert len(draw_sparkline([0.0, least])) == 2


def test_a_sparkline_holds_the_largest_numbers():
    assert draw_sparkline([-1e308, 1e308]) == "▁█"
    assert draw_sparkline([1e308] * 100, 1) == "▁"


def test_a_sparkline_of_many_numbers_is_made_of_means():
    values = [0.0] * 500 + [1.0] * 500
    assert draw_sparkline(values, columns=4) == "▁▁██"
    assert len(draw_sparkline(values)) == 32


def test_a_sparkline_between_limits_stays_within_them():
    assert draw_sparkline([-90.0, -60.0, 0.0, 6.0], low=-60.0, high=0.0) == "▁▁██"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (0.1, "0.1"),
        ("text", "text"),
        ([1, 2], "[1, 2]"),
        ([None] * 7, "7 values, none of them a number"),
        (list("abcdefg"), "a, b, c, d, e, f, g"),
        ([[1, 2]] * 7, "7 lists of 2"),
        ([[1], 2, 3, 4, 5, 6, 7], "7 values"),
        ([True] * 7, "7 values"),
    ],
)
def test_a_value_takes_one_line(value, shown):
    assert format_value(value) == shown
