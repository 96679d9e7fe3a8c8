"""A job reports its progress, and whoever calls it wrongly reads why."""

from __future__ import annotations

import math
import os
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import segue
from segue.job_progress import MAX_TEXT, ChildPage


def test_outside_a_worker_it_does_nothing() -> None:
    assert segue.progress(0.5, "separating") is None


@pytest.mark.parametrize("fraction", [0, 1, True, 0.25, np.float32(0.25), Fraction(1, 4)])
def test_any_number_from_0_to_1_is_a_fraction(page: ChildPage, fraction: Any) -> None:
    segue.progress(fraction, "separating")
    assert page.read_report() == (float(fraction), "separating")


@pytest.mark.parametrize(
    "fraction", [-0.01, 1.01, math.nan, math.inf, None, "0.5", 1j, [0.5], np.array([0.1, 0.2])]
)
def test_anything_else_is_refused_with_the_rule(fraction: Any) -> None:
    with pytest.raises(ValueError, match=re.escape("report a number from 0 to 1")) as error:
        segue.progress(fraction)
    assert repr(fraction) in str(error.value)


@pytest.mark.parametrize("text", [None, b"separating", 5])
def test_a_text_that_is_no_string_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="report a string") as error:
        segue.progress(0.5, text)
    assert repr(text) in str(error.value)


def test_nothing_is_reported_before_the_call_does(page: ChildPage) -> None:
    assert page.read_report() is None
    segue.progress(0.5)
    assert page.read_report() == (0.5, "")
    page.call += 1
    assert page.read_report() is None


def test_a_long_text_is_cut_and_what_cannot_be_encoded_is_replaced(page: ChildPage) -> None:
    segue.progress(0.1, "東" * 10_000)
    assert page.read_report() == (0.1, "東" * MAX_TEXT)
    segue.progress(0.2, "a\udcffb")
    assert page.read_report() == (0.2, "a?b")
    segue.progress(0.3, "")
    assert page.read_report() == (0.3, "")


def test_a_process_that_a_job_forks_reports_too(page: ChildPage) -> None:
    if (process := os.fork()) == 0:
        segue.progress(0.75, "in a fork")
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    assert page.read_report() == (0.75, "in a fork")


def test_a_process_that_a_job_forks_does_not_mix_up_the_texts(page: ChildPage) -> None:
    segue.progress(0.1, "separating")
    if (process := os.fork()) == 0:
        segue.progress(0.75, "in a fork")
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    segue.progress(0.2, "separating")
    assert page.read_report() == (0.2, "separating")


def test_a_page_that_a_job_has_overwritten_says_nothing(page: ChildPage) -> None:
    segue.progress(0.1)
    page.report(math.nan, "")
    assert page.read_report() is None
