"""Detrended fluctuation analysis, against its definition, and on levels of known exponents."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from segue.errors import ConfigurationError
from segue.features import fluctuation
from segue.features.fluctuation import danceability
from segue.media.audio import Audio
from segue.testing import sound

pytestmark = pytest.mark.slow

SR = 22050
NOTHING = {"danceability": None, "dfa_exponents": [], "window_s": []}
# Exponents are given to four decimals; those of the reference are not rounded.
ROUNDING = 6e-5


def buzz(levels: np.ndarray) -> Audio:
    """Return samples that alternate, at a given level in each 10 ms."""
    segments = np.arange(len(levels) * SR // 100) * 100 // SR
    y = 0.1 * levels[segments] * (-1.0) ** np.arange(len(segments))
    return Audio(y=y.astype(np.float32), sr=SR)


def compute_by_definition(audio: Audio, windows: list[int]) -> np.ndarray:
    """The exponents as the paper defines them: a line is fitted to each window, one at a time."""
    count = len(audio.y) * 100 // audio.sr
    edges = [i * audio.sr // 100 for i in range(count + 1)]
    levels = [audio.y[a:b].astype(np.float64).std() for a, b in pairwise(edges)]
    walk = np.cumsum(levels)
    fluctuations = []
    for length in windows:
        time = np.arange(length)
        cut = np.lib.stride_tricks.sliding_window_view(walk, length).T
        slope, offset = np.polyfit(time, cut, 1)
        rest = cut - slope * time[:, np.newaxis] - offset
        fluctuations.append(np.sqrt(np.mean(rest**2)))
    scales = np.log10(np.array(windows) + 3)
    return np.diff(np.log10(fluctuations)) / np.diff(scales)


def last_bits() -> Audio:
    """Return silence but for single steps of 16 bits, in each tenth of a second, for 30 s."""
    y = np.zeros(30 * SR, np.float32)
    y[:: SR // 10] = 2.0**-15
    return Audio(y=y, sr=SR)


def speech_like() -> Audio:
    """Return syllables of random lengths, loudness and pauses, for 60 s."""
    rng = np.random.default_rng(0)
    levels = np.zeros(6000)
    at = 0
    while at < len(levels):
        length = int(rng.integers(8, 35))
        if rng.random() > 0.15:
            part = levels[at : at + length]
            part += rng.lognormal(0, 0.6) * np.hanning(length)[: len(part)]
        at += length
    return buzz(levels)


def clicks(*, wander: float) -> Audio:
    """Clicks at about 120 bpm, whose tempo wanders by some part from one to the next, for 60 s."""
    rng = np.random.default_rng(1)
    y = np.zeros(60 * SR)
    click = np.cos(2 * np.pi * 1000 * np.arange(1100) / SR) * np.exp(-np.arange(1100) / 220)
    at, interval_s = 0.0, 0.5
    while at < 59.9:
        sound_start = int(at * SR)
        y[sound_start : sound_start + 1100] += click[: len(y) - sound_start]
        interval_s = float(np.clip(interval_s * np.exp(rng.normal(0, wander)), 0.25, 1.0))
        at += interval_s
    return Audio(y=y.astype(np.float32), sr=SR)


def chord(*, fades: bool) -> Audio:
    """C major of voices with five harmonics, for 30 s."""
    t = np.arange(30 * SR) / SR
    y = sum(
        np.sin(2 * np.pi * h * hz * t) / h for hz in (261.63, 329.63, 392.0) for h in range(1, 6)
    )
    return Audio(y=(0.1 * y * (np.exp(-t / 4) if fades else 1.0)).astype(np.float32), sr=SR)


@pytest.mark.parametrize(
    "audio",
    [
        sound.music(0, bpm=128.0, duration_s=30.0, sr=SR, channels=1),
        sound.click_track(100.0, 30.0),
        chord(fades=True),
        buzz(1.0 + 0.5 * np.sin(np.arange(3000) / 40)),
    ],
    ids=["music", "clicks", "fading chord", "swelling buzz"],
)
def test_the_exponents_are_those_of_the_definition(audio):
    found = danceability(audio)
    windows = [round(100 * length_s) for length_s in found["window_s"]]
    expected = compute_by_definition(audio, windows)
    assert found["dfa_exponents"] == pytest.approx(expected.tolist(), abs=ROUNDING)
    assert np.corrcoef(found["dfa_exponents"], expected)[0, 1] > 0.9999
    floor = max(0.1, expected.mean())
    assert found["danceability"] == pytest.approx(1 / floor, abs=ROUNDING * 100)


def test_the_windows_are_those_of_the_paper():
    found = danceability(sound.music(0, duration_s=20.0, sr=SR, channels=1))
    lengths_s = found["window_s"]
    assert lengths_s[0] == 0.31
    assert 8.0 < lengths_s[-1] <= 8.8
    assert len(found["dfa_exponents"]) == len(lengths_s) - 1 == 35
    ratios = np.array(lengths_s[1:]) / lengths_s[:-1]
    assert ratios == pytest.approx(1.1, abs=0.03)


def test_levels_without_memory_have_an_exponent_of_a_half():
    """Peng 1994: uncorrelated values make a random walk, whose fluctuation grows as the root."""
    rng = np.random.default_rng(0)
    found = danceability(buzz(rng.uniform(0.2, 1.8, 30_000)))
    assert np.mean(found["dfa_exponents"]) == pytest.approx(0.5, abs=0.05)
    walk = np.cumsum(rng.standard_normal(30_000))
    found = danceability(buzz((walk - walk.min()) / np.ptp(walk)))
    assert np.mean(found["dfa_exponents"]) == pytest.approx(1.5, abs=0.1)


def test_a_steady_beat_is_more_danceable_than_speech_rubato_and_chords():
    beat = danceability(sound.music(0, bpm=120.0, duration_s=60.0, sr=SR, channels=1))
    drums = danceability(clicks(wander=0.0))["danceability"]
    assert drums > 4.0
    assert drums > 1.3 * danceability(clicks(wander=0.1))["danceability"]
    for other in (speech_like(), chord(fades=True)):
        assert beat["danceability"] > 1.3 * danceability(other)["danceability"]
    assert danceability(chord(fades=False))["danceability"] is None


@pytest.mark.parametrize("bpm", [60.0, 120.0, 180.0, 600.0])
def test_a_metronome_is_within_the_scale(bpm):
    assert 3.5 < danceability(sound.click_track(bpm, 30.0))["danceability"] <= 10.0


WITHOUT_PULSE = {
    "silence": (sound.silence(30.0, sr=SR), "silent"),
    "a constant": (Audio(y=np.full(30 * SR, 0.5, np.float32), sr=SR), "silent"),
    "the last bits": (last_bits(), "silent"),
    "noise": (sound.noise(0, 30.0, sr=SR), "its level is steady"),
    "a tone": (sound.tone(440.0, 30.0, sr=SR), "its level is steady"),
    "a held chord": (chord(fades=False), "its level is steady"),
    "one sample": (sound.silence(1 / SR, sr=SR), "shorter than 17.6 s"),
    "too few beats": (sound.click_track(120.0, 17.5), "shorter than 17.6 s"),
}


@pytest.mark.parametrize("name", WITHOUT_PULSE)
def test_what_has_no_pulse_has_a_reason(name):
    audio, reason = WITHOUT_PULSE[name]
    assert danceability(audio) == {**NOTHING, "reason": reason}


def test_as_long_as_two_windows_is_long_enough():
    assert danceability(sound.click_track(120.0, 17.6))["reason"] is None
    short = danceability(sound.click_track(120.0, 4.0), longest_window_s=2.0)
    assert short["reason"] is None
    assert short["window_s"][-1] <= 2.0


@pytest.mark.parametrize("sr", [8000, 44100, 192000])
def test_it_is_the_same_at_any_rate(sr):
    expected = danceability(sound.click_track(120.0, 20.0))["danceability"]
    found = danceability(sound.click_track(120.0, 20.0, sr=sr))["danceability"]
    assert found == pytest.approx(expected, rel=0.1)


def test_channels_are_averaged_and_loudness_does_not_matter():
    mono = sound.music(2, duration_s=20.0, sr=SR, channels=1)
    found = danceability(mono)
    assert danceability(Audio(y=np.stack([mono.y] * 8), sr=SR)) == found
    assert danceability(Audio(y=mono.y / 16, sr=SR)) == found


def test_chunks_do_not_change_the_result(monkeypatch):
    audio = sound.music(3, duration_s=30.0, sr=SR, channels=1)
    found = danceability(audio)
    monkeypatch.setattr(fluctuation, "SAMPLES_CHUNK", 7)
    monkeypatch.setattr(fluctuation, "WINDOWS_CHUNK", 100)
    again = danceability(audio)
    assert again["dfa_exponents"] == pytest.approx(found["dfa_exponents"], abs=1e-9)
    assert json.loads(json.dumps(found)) == found


def test_a_long_file_is_never_in_memory_as_a_whole():
    minute = sound.music(0, duration_s=60.0, sr=SR, channels=1)
    long = Audio(y=np.tile(minute.y, 15), sr=SR)
    danceability(minute)
    tracemalloc.start()
    try:
        danceability(long)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < long.y.nbytes / 4


@pytest.mark.parametrize(
    "windows",
    [
        {"shortest_window_s": 0.03},
        {"shortest_window_s": 9.0},
        {"window_ratio": 1.0},
        {"longest_window_s": float("nan")},
        {"longest_window_s": float("inf")},
        {"longest_window_s": 0.32},
        {"window_ratio": 1000.0},
    ],
)
def test_windows_out_of_range_are_a_mistake(windows):
    with pytest.raises(
        ConfigurationError, match=r"danceability: windows from .* the ratio above 1"
    ):
        danceability(sound.click_track(120.0, 20.0), **windows)
