"""Speech whose places are known, and how much louder it is than the music."""

from __future__ import annotations

import numpy as np
import pytest
from truth.voices import RMS, SAMPLE_RATE_HZ, cut_prompt, list_runs, mix, select


def say(*lasting_s: float) -> np.ndarray:
    """Return a tone and silence in turn, beginning with silence."""
    parts = []
    for number, seconds in enumerate(lasting_s):
        t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        parts.append((number % 2) * 0.3 * np.sin(2 * np.pi * 440 * t))
    return np.concatenate(parts)


def test_silence_around_a_prompt_is_cut_and_short_pauses_are_speech():
    y, heard = cut_prompt(say(0.5, 1.0, 0.15, 0.4, 0.6, 0.5, 0.7))
    assert len(y) == round(2.65 * SAMPLE_RATE_HZ)
    assert list_runs(heard) == [(0.0, 1.55), (2.15, 2.65)]
    assert np.sqrt((y**2).mean()) == pytest.approx(RMS)


@pytest.mark.parametrize("level_db", [10, 0, -5])
def test_speech_is_louder_than_the_music_by_the_level(level_db):
    y = say(1.0, 1.0)
    backing = 0.2 * np.random.default_rng(1).normal(size=SAMPLE_RATE_HZ // 3)
    loud = select(y, [(1.0, 2.0)])
    mixture = mix(y, loud, backing, level_db)
    music = 2 * mixture[:SAMPLE_RATE_HZ]  # before the speech begins
    ratio = (loud**2).mean() / (music**2).mean()
    assert 10 * np.log10(ratio) == pytest.approx(level_db, abs=0.1)
