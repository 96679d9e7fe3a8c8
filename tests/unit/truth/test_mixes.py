"""Mixes of a voice and music, and how near parts are to the truth."""

from __future__ import annotations

import numpy as np
import pytest
from truth.mixes import mix_voice, score_stems, si_sdr

ROUNDING_DB = 0.01  # of samples of 32 bits


@pytest.fixture
def sounds():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 2, 44100)).astype(np.float32)


def test_the_ratio_is_that_of_what_is_added_and_ignores_the_scale(sounds):
    truth, noise = sounds
    noise = noise - (noise.ravel() @ truth.ravel()) / (truth.ravel() @ truth.ravel()) * truth
    expected = 10 * np.log10(np.sum(truth**2) / np.sum((0.1 * noise) ** 2))
    for scale in (1, 0.01):
        found = si_sdr(truth, scale * (truth + 0.1 * noise))
        assert found == pytest.approx(expected, abs=ROUNDING_DB)


def test_silence_has_the_least_ratio(sounds):
    assert si_sdr(sounds[0], np.zeros_like(sounds[0])) == -120


@pytest.mark.parametrize("above_db", [5, 0, -5])
def test_a_voice_is_as_much_louder_as_is_asked_for(sounds, above_db):
    mixed = mix_voice(0.3 * sounds[0], 5 * sounds[1], above_db)
    mix, voice = mixed[:2], mixed[2:]
    powers = np.mean(voice**2), np.mean((mix - voice) ** 2)
    assert 10 * np.log10(powers[0] / powers[1]) == pytest.approx(above_db, abs=ROUNDING_DB)
    assert np.abs(mix).max() == pytest.approx(0.9)


def test_a_quiet_mix_is_the_same_below(sounds):
    loud, quiet = (mix_voice(*sounds, 0, level_db) for level_db in (0, -40))
    assert quiet == pytest.approx(loud / 100)


def test_music_that_is_too_short_ends_in_silence(sounds):
    mixed = mix_voice(sounds[0], sounds[1][:, :100], 0)
    assert mixed.shape == (4, 44100)
    assert (mixed[:2, 100:] == mixed[2:, 100:]).all()


def test_the_mix_itself_gains_nothing(sounds):
    mixed = mix_voice(*sounds, 0)
    mix, voice = mixed[:2], mixed[2:]
    scores = score_stems(mix, voice, mix, mix - voice)
    assert scores["vocals_gain_db"] == 0
    assert scores["accompaniment_db"] > 60
