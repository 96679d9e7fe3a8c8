"""The level of a file is that of what is in it, without its pauses."""

from __future__ import annotations

import numpy as np
import pytest

from segue.features.levels import find_gain, measure_powers
from segue.media.audio import Audio

SR = 8_000


def play(*parts: tuple[float, float], channels: int = 1, sr: int = SR) -> Audio:
    """Return square waves of levels in dBFS and lengths in seconds."""
    levels = [np.full(round(length_s * sr), 10 ** (level / 20)) for level, length_s in parts]
    y = np.concatenate(levels).astype(np.float32)
    y[1::2] *= -1
    return Audio(y=y if channels == 1 else np.tile(y, (channels, 1)), sr=sr)


def test_powers_are_those_of_each_100_ms_and_of_the_rest():
    powers = measure_powers(play((-10, 0.2), (-20, 0.15)))
    np.testing.assert_allclose(powers, [0.1, 0.1, 0.01, 0.01], rtol=1e-6)


def test_powers_of_channels_are_averaged():
    one = play((-10, 0.3)).y
    powers = measure_powers(Audio(y=np.stack([one, np.zeros_like(one)]), sr=SR))
    np.testing.assert_allclose(powers, [0.05, 0.05, 0.05], rtol=1e-6)


def test_an_empty_file_has_no_powers():
    empty = Audio(y=np.zeros(0, np.float32), sr=SR)
    assert measure_powers(empty).shape == (0,)
    assert find_gain(empty, -20.0) == 0.0


def test_a_long_file_is_read_in_blocks():
    assert len(measure_powers(play((-10, 25.05)))) == 251


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_a_gain_brings_a_file_to_the_level(channels):
    assert find_gain(play((-30, 2), channels=channels), -20.0) == pytest.approx(10**0.5)


def test_pauses_and_what_is_much_quieter_do_not_count():
    audio = play((-90, 5), (-30, 1), (-45, 1), (-100, 5))
    assert find_gain(audio, -20.0) == pytest.approx(10**0.5)


def test_a_click_in_what_is_quiet_does_not_decide():
    quiet = play((-50, 20))
    click = play((-50, 10), (0, 0.1), (-50, 9.9))
    assert find_gain(quiet, -20.0) / find_gain(click, -20.0) < 10 ** (10 / 20)
    # A tenth of the time is no click.
    loud = play((-50, 9), (-21, 1))
    assert find_gain(loud, -20.0) == pytest.approx(10 ** (1 / 20))


@pytest.mark.parametrize("audio", [play((-81, 3)), play((-400, 1)), play((-90, 1 / SR))])
def test_silence_has_no_gain(audio):
    assert find_gain(audio, -20.0) == 0.0


def test_one_sample_at_a_low_rate_has_a_gain():
    assert find_gain(Audio(y=np.ones(1, np.float32), sr=5), -20.0) == pytest.approx(0.1)
