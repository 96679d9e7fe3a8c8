"""How often the console counts: often enough to look live, and never at any price."""

from __future__ import annotations

import pytest

from segue_console.namespace import COUNT_S, READS_PER_HOUR, find_pause_s


@pytest.mark.parametrize(
    ("took_s", "reads", "pause_s"),
    [
        (0.01, 0, COUNT_S),  # a ledger in a folder
        (3.0, 0, 15.0),  # which is large
        (0.2, 100, COUNT_S),  # in the cloud, with some thousand files
        (2.0, 20_000, 72.0),  # a million
        (20.0, 1_200_000, 4320.0),  # sixty millions
    ],
)
def test_a_count_that_costs_more_is_made_less_often(took_s, reads, pause_s):
    assert find_pause_s(took_s, reads) == pause_s
    assert reads * 3600 / pause_s <= READS_PER_HOUR
