"""The K weighting of every rate responds like that of the standard at 48 kHz."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal

from segue.features import k_weighting
from segue.features.k_weighting import HIGH_PASS, SHELF, design_filters, find_power

# What the module's docstring promises: below each rate, how far a tone deviates at most.
DEVIATION_DB = {8_000: 0.35, 16_000: 0.04, 44_100: 0.003, 10_000_000: 0.0001}
NOISE_DEVIATION_DB = 0.05
RATES_HZ = [
    *(1000, 1500, 2000, 3000, 4000, 6000, 8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000),
    *(37_800, 44_100, 48_000, 48_001, 50_000, 64_000, 88_200, 96_000, 176_400, 192_000, 352_800),
    *(768_000, 1_411_200, 6_144_000),
]
LOWEST_HZ = 15.0


def to_db(power: float) -> float:
    return 10 * math.log10(power)


def find_k_power(frequency_hz: float, sr: int) -> float:
    filters = design_filters(sr)
    sections = (filters.shelf, filters.high_pass)
    return math.prod(find_power(section, frequency_hz, sr) for section in sections)


def find_wanted_power(frequency_hz: float) -> float:
    return math.prod(find_power(section, frequency_hz, 48_000) for section in (SHELF, HIGH_PASS))


def list_frequencies(sr: int) -> list[float]:
    return list(np.linspace(LOWEST_HZ, min(sr / 2, 24_000) * 0.999, 500))


def test_at_48_khz_the_coefficients_are_those_of_the_standard():
    filters = design_filters(48_000)
    assert filters.shelf == pytest.approx(SHELF, abs=1e-12)
    assert filters.high_pass == pytest.approx(HIGH_PASS, abs=1e-12)
    assert filters.low_pass == ()


def test_the_standard_raises_997_hz_by_as_much_as_it_subtracts():
    assert to_db(find_wanted_power(997.0)) == pytest.approx(0.691, abs=0.001)


@pytest.mark.parametrize("sr", RATES_HZ)
def test_a_tone_is_weighted_as_at_48_khz(sr):
    (limit_db, *_) = [db for below, db in DEVIATION_DB.items() if sr < below]
    for frequency_hz in list_frequencies(sr):
        error_db = to_db(find_k_power(frequency_hz, sr) / find_wanted_power(frequency_hz))
        assert abs(error_db) < limit_db, frequency_hz


@pytest.mark.parametrize("sr", RATES_HZ)
def test_white_noise_is_weighted_as_at_48_khz(sr):
    frequencies = list_frequencies(sr)
    measured, wanted = (
        sum(power(f) for f in frequencies)
        for power in (lambda f: find_k_power(f, sr), find_wanted_power)
    )
    assert abs(to_db(measured / wanted)) < NOISE_DEVIATION_DB


@pytest.mark.parametrize("sr", RATES_HZ)
def test_the_filters_are_stable(sr):
    filters = design_filters(sr)
    for section in (*filters.low_pass, filters.shelf, filters.high_pass):
        assert max(abs(np.roots([1.0, *section[3:]]))) < 1.0


@pytest.mark.parametrize("sr", [sr for sr in RATES_HZ if sr > 64_000])
def test_what_a_file_of_48_khz_could_not_hold_is_removed(sr):
    filters = design_filters(sr)

    def find_loss_db(frequency_hz: float) -> float:
        return -sum(to_db(find_power(s, frequency_hz, sr)) for s in filters.low_pass)

    assert max(abs(find_loss_db(f)) for f in np.linspace(10.0, 23_000.0, 300)) < 0.011
    # Not exactly at a zero, where the loss is infinite.
    assert min(find_loss_db(f) for f in np.linspace(28_600.0, sr / 2 - 7.0, 3001)) > 79.9


def test_the_low_pass_is_an_elliptic_filter():
    zeros, poles, _ = scipy.signal.ellipap(10, 0.01, 80.0)
    tabled = k_weighting.LOW_PASS
    assert [zero for zero, _, _ in tabled] == pytest.approx(sorted(zeros.imag)[:4:-1], rel=1e-9)
    upper = sorted((pole for pole in poles if pole.imag > 0), key=lambda pole: pole.imag)
    assert [distance for _, distance, _ in tabled] == pytest.approx([-p.real for p in upper])
    assert [square for _, _, square in tabled] == pytest.approx([abs(p) ** 2 for p in upper])
