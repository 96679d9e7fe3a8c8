"""The filter that estimates a signal between its samples."""

from __future__ import annotations

import numpy as np
import pytest

from segue.features.true_peak import HALF, QUARTER, build_interpolator

# What the module's docstring promises of the filter at 44.1 kHz.
RIPPLE_DB, LOSS_AT_20_KHZ_DB = 0.015, 0.35


def test_the_table_is_a_sinc_function_with_a_kaiser_window():
    offsets = np.arange(-15, 17)
    for fraction, table in ((0.25, QUARTER), (0.5, (*HALF, *reversed(HALF)))):
        t = fraction - offsets
        wanted = np.sinc(t) * np.i0(6.0 * np.sqrt(1 - (t / 16) ** 2))
        assert table == pytest.approx(wanted / wanted.sum(), abs=1e-9)


@pytest.mark.parametrize(("fraction", "table"), [(0.25, QUARTER), (0.5, (*HALF, *HALF[::-1]))])
def test_the_filter_is_as_exact_as_promised(fraction, table):
    def find_gain_db(frequency_hz: float) -> float:
        phases = 2 * np.pi * frequency_hz / 44_100 * np.arange(-15, 17)
        return 20 * np.log10(abs(np.exp(1j * phases) @ np.array(table)))

    assert max(abs(find_gain_db(f)) for f in np.linspace(0, 19_000, 400)) < RIPPLE_DB
    assert min(find_gain_db(f) for f in np.linspace(0, 20_000, 400)) > -LOSS_AT_20_KHZ_DB


@pytest.mark.parametrize(("sr", "values"), [(8000, 3), (95_999, 3), (96_000, 1), (191_999, 1)])
def test_signals_of_lower_rates_are_interpolated_more_often(sr, values):
    interpolator = build_interpolator(sr)
    assert interpolator is not None
    assert interpolator.half.any()
    assert interpolator.even.any() == interpolator.odd.any() == (values == 3)


@pytest.mark.parametrize("sr", [192_000, 6_144_000])
def test_the_samples_of_a_high_rate_are_close_enough(sr):
    assert build_interpolator(sr) is None


@pytest.mark.parametrize("sr", [48_000, 96_000])
def test_no_value_exceeds_the_largest_gain(sr):
    interpolator = build_interpolator(sr)
    assert interpolator is not None
    quarter = interpolator.even + interpolator.odd, interpolator.even - interpolator.odd
    worst = max(2 * np.abs(interpolator.half).sum(), np.abs(quarter).sum())
    assert worst < interpolator.largest_gain < worst * 1.001
