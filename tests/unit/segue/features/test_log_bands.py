"""Bands and their rises, against the same formula written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from segue.features import log_bands
from segue.features.log_bands import (
    BANDS,
    FEATURES,
    HOP,
    RATE_HZ,
    WINDOW,
    build_bands,
    count_frames,
    iterate_features,
)
from segue.testing import sound

pytestmark = pytest.mark.slow

# Transforms of 32-bit floats against 64-bit ones, where a loud tone is beside silence.
ROUNDING = 5e-6


def compute(y: np.ndarray) -> np.ndarray:
    """Compute the features of a mono signal frame by frame, in 64-bit floats."""
    padded = np.pad(y.astype(float), WINDOW)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))
    starts, weights, ends = build_bands()
    bands = []
    for frame in range(count_frames(len(y))):
        at = WINDOW + frame * HOP - WINDOW // 2
        magnitudes = np.abs(np.fft.fft(padded[at : at + WINDOW] * window))
        begins = [0, *ends[:-1]]
        sums = [
            weights[b:e] @ magnitudes[s : s + e - b]
            for s, b, e in zip(starts, begins, ends, strict=True)
        ]
        bands.append(np.log10(1 + np.array(sums)))
    rises = np.maximum(np.diff(bands, axis=0, prepend=bands[:1]), 0)
    return np.concatenate([bands, rises], axis=1)


def join(y: np.ndarray) -> np.ndarray:
    return np.concatenate(list(iterate_features(y)))


SIGNALS = {
    "music": sound.music(0, duration_s=3.0, sr=RATE_HZ, channels=1).y,
    "noise": sound.noise(1, 1.0, sr=RATE_HZ).y,
    "tone": sound.tone(440.0, 1.0, sr=RATE_HZ).y,
    "loud": 30 * sound.noise(2, 0.5, sr=RATE_HZ).y,
    "one sample": np.ones(1, np.float32),
    "a hop": np.ones(HOP, np.float32),
    "a hop and a sample": np.ones(HOP + 1, np.float32),
}


@pytest.mark.parametrize("y", SIGNALS.values(), ids=SIGNALS)
def test_the_features_are_what_the_formula_says(y):
    found = join(y)
    assert found.shape == (count_frames(len(y)), FEATURES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, compute(y), atol=ROUNDING)


def test_there_is_a_frame_for_each_hop_that_has_begun():
    counts = [count_frames(n) for n in (1, HOP, HOP + 1, 2 * HOP, RATE_HZ)]
    assert counts == [1, 1, 2, 2, 50]


def test_silence_is_zero_and_the_first_frame_has_no_rises():
    assert not join(np.zeros(RATE_HZ, np.float32)).any()
    assert not join(SIGNALS["noise"])[0, BANDS:].any()


def test_the_bands_are_triangles_of_the_sum_one_from_30_hz_to_half_the_rate():
    starts, weights, ends = build_bands()
    assert len(starts) == len(ends) == BANDS
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        triangle = weights[begin:end]
        peak = triangle.argmax()
        assert triangle.sum() == pytest.approx(1.0)
        assert (np.diff(triangle[: peak + 1]) > 0).all()
        assert (np.diff(triangle[peak:]) < 0).all()
    bin_hz = RATE_HZ / (WINDOW - 1)
    assert 30.0 < starts[0] * bin_hz < 60.0
    assert starts[-1] + ends[-1] - ends[-2] == WINDOW // 2 - 1
    assert (np.diff(starts) > 0).all()


def test_blocks_do_not_show(monkeypatch):
    at_once = join(SIGNALS["music"])
    monkeypatch.setattr(log_bands, "BLOCK_FRAMES", 13)
    np.testing.assert_array_equal(join(SIGNALS["music"]), at_once)


def test_channels_are_averaged():
    y = SIGNALS["music"]
    np.testing.assert_array_equal(join(np.stack([y, y])), join(y))


def test_a_frame_is_centred_on_its_time():
    y = np.zeros(RATE_HZ, np.float32)
    y[20 * HOP] = 1.0
    power = join(y)[:, :BANDS].sum(axis=1)
    assert power.argmax() == 20
    assert power[19] == pytest.approx(power[21], rel=1e-5)
