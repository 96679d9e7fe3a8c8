"""The log mel energies are those of their definition, computed here a frame and a bin at a time."""

from __future__ import annotations

import numpy as np
import pytest

from segue.features.filter_bank import BANDS, compute_log_mel, count_frames
from segue.testing.sound import tone

ROUNDING = 2e-3  # of logarithms, whose energies are sums of products of 32-bit floats
NOISE_TOLERANCE = 0.3  # of the mean of 600 frames of noise, in few bins
TONE_FRAMES = 98


def compute_energies(samples: np.ndarray) -> np.ndarray:
    """Compute the energies of one frame of 400 samples in 64-bit floats."""
    x = samples - samples.mean()
    x = x - 0.97 * np.concatenate([x[:1], x[:-1]])
    x = x * np.sin(np.pi * np.arange(400) / 399) ** 1.7
    angles = 2 * np.pi * np.outer(np.arange(257), np.arange(400)) / 512
    power = (np.cos(angles) @ x) ** 2 + (np.sin(angles) @ x) ** 2
    mels = 1127 * np.log(1 + np.arange(257) * 31.25 / 700)
    low, high = 1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 8000 / 700)
    step = (high - low) / (BANDS + 1)
    centres = low + step * np.arange(1, BANDS + 1)
    weights = np.maximum(0, 1 - abs(mels - centres[:, None]) / step)
    return weights @ power


def test_each_frame_is_what_its_definition_says():
    y = np.random.default_rng(1).normal(0.02, 0.1, 400 + 3 * 160 + 159).astype(np.float32)
    found = compute_log_mel(y)
    assert found.dtype == np.float32
    starts = range(0, 4 * 160, 160)
    expected = [compute_energies(y[start : start + 400] * 32768.0) for start in starts]
    # The noise is 60 dB and more below this sound.
    np.testing.assert_allclose(found, np.log(expected), atol=ROUNDING)


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2)])
def test_only_whole_frames_count(samples, frames):
    assert count_frames(samples) == frames
    assert compute_log_mel(np.zeros(samples, np.float32)).shape == (frames, BANDS)


def test_a_tone_is_loudest_in_its_band_and_ten_times_louder_is_ln_100_more():
    y = tone(1000.0, 1.0, sr=16_000).y
    found = compute_log_mel(y)
    assert len(found) == TONE_FRAMES
    mel = 1127 * np.log(1 + np.array([20, 1000, 8000]) / 700)
    band = (mel[1] - mel[0]) / (mel[2] - mel[0]) * (BANDS + 1) - 1
    assert abs(found.mean(axis=0).argmax() - band) < 1
    peak = round(band)
    louder = compute_log_mel(10 * y)[:, peak] - found[:, peak]
    np.testing.assert_allclose(louder, np.log(100), atol=ROUNDING)


def test_silence_has_the_energy_of_noise_of_16_bits_with_dither():
    rng = np.random.default_rng(2)
    steps = rng.uniform(-0.5, 0.5, (2, 600, 400)).sum(axis=0)
    noise = np.rint(steps)
    assert noise.std() == pytest.approx(0.5, rel=0.01)
    expected = np.mean([compute_energies(frame) for frame in noise], axis=0)
    (found,) = compute_log_mel(np.zeros(400, np.float32))
    np.testing.assert_allclose(found, np.log(expected), atol=NOISE_TOLERANCE)
