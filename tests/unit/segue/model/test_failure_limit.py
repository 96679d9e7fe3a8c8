"""How many failures are too many."""

from __future__ import annotations

import pytest

from segue.errors import ConfigurationError
from segue.model.failure_limit import LEAST_TRIED, FailureLimit


def test_a_number_of_files_is_reached_whatever_was_tried():
    limit = FailureLimit.parse("3")
    assert [limit.is_reached(n, 1000) for n in (2, 3, 4)] == [False, True, True]
    assert FailureLimit.parse(3) == limit


def test_a_share_counts_once_enough_files_were_tried():
    limit = FailureLimit.parse("2%")
    assert not limit.is_reached(LEAST_TRIED - 1, LEAST_TRIED - 1)
    assert not limit.is_reached(2, 100)
    assert limit.is_reached(3, 100)
    assert not limit.is_reached(20, 1000)


@pytest.mark.parametrize("text", ["", "0", "-1", "0%", "101%", "many", "1.5", "nan%", "%", "1 %%"])
def test_what_is_no_limit_is_refused(text):
    with pytest.raises(ConfigurationError, match="such as 20"):
        FailureLimit.parse(text)


@pytest.mark.parametrize(("text", "shown"), [("1200", "1,200"), ("0.5%", "0.5%"), ("100%", "100%")])
def test_a_limit_is_shown_as_it_is_written(text, shown):
    assert str(FailureLimit.parse(text)) == shown


def test_workers_share_a_number_and_each_keeps_a_share_of_files():
    assert FailureLimit.parse("10").divide(4) == FailureLimit(files=3)
    assert FailureLimit.parse("1").divide(4) == FailureLimit(files=1)
    assert FailureLimit.parse("1%").divide(4) == FailureLimit.parse("1%")
