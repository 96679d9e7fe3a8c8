"""The key and the tuning, on music whose key is known."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import soxr

from segue.features import tonality
from segue.features.tonality import TONICS, key
from segue.media.audio import Audio
from segue.testing import sound

pytestmark = pytest.mark.slow

SR = 22050
# Overtones of low notes are between the semitones, and so are the edges of the window's lobes.
TUNING_TOLERANCE_CENTS = 3.0
NOTHING = dict.fromkeys(("key", "mode", "camelot", "confidence", "tuning_cents"))


def piece(tonic: str, mode: str, *, seed: int = 1, duration_s: float = 8.0, sr: int = SR) -> Audio:
    """Return four bars that have all the chords of their key, first that of the tonic."""
    return sound.music(seed, key=f"{tonic} {mode}", duration_s=duration_s, sr=sr, channels=1)


def detune(audio: Audio, cents: float) -> Audio:
    return Audio(y=soxr.resample(audio.y, audio.sr, audio.sr * 2 ** (-cents / 1200)), sr=audio.sr)


@pytest.mark.parametrize("mode", ["major", "minor"])
@pytest.mark.parametrize("tonic", TONICS)
def test_each_key_is_found_in_any_tuning(tonic, mode):
    audio = piece(tonic, mode)
    for cents in (0, -45, 45, -20):
        found = key(detune(audio, cents) if cents else audio)
        assert (found["key"], found["mode"]) == (tonic, mode), cents
        assert found["tuning_cents"] == pytest.approx(cents, abs=TUNING_TOLERANCE_CENTS)
        assert found["reason"] is None
        assert 0.0 < found["confidence"] <= 1.0


def test_a_cadence_in_minor_has_its_leading_note():
    """A minor, D minor, E major, A minor: notes of the harmonic scale, which no other key has."""
    roots = ((57, 60, 64), (50, 53, 57, 62), (52, 56, 59, 64), (57, 60, 64))
    chords = [
        sum(sound.tone(440 * 2 ** ((note - 69) / 12), 1.0, sr=SR, fade_s=0.02).y for note in chord)
        for chord in roots
    ]
    found = key(Audio(y=np.concatenate(chords) / 8, sr=SR))
    assert (found["key"], found["mode"], found["camelot"]) == ("A", "minor", "8A")


WHEEL = {
    "1B": "B major", "2B": "F# major", "3B": "C# major", "4B": "G# major", "5B": "D# major",
    "6B": "A# major", "7B": "F major", "8B": "C major", "9B": "G major", "10B": "D major",
    "11B": "A major", "12B": "E major", "1A": "G# minor", "2A": "D# minor", "3A": "A# minor",
    "4A": "F minor", "5A": "C minor", "6A": "G minor", "7A": "D minor", "8A": "A minor",
    "9A": "E minor", "10A": "B minor", "11A": "F# minor", "12A": "C# minor",
}  # fmt: skip


def test_djs_know_each_key_by_its_place_on_the_wheel():
    named = {
        tonality._name_camelot(mode, tonic): f"{TONICS[tonic]} {tonality.MODES[mode]}"
        for mode in (0, 1)
        for tonic in range(12)
    }
    assert named == WHEEL


def test_the_best_of_the_unrelated_keys_is_what_confidence_is_measured_by():
    def name_related(mode: int, tonic: int) -> set[str]:
        found = np.argwhere(~tonality._find_unrelated(mode, tonic))
        return {f"{TONICS[t]} {tonality.MODES[m]}" for m, t in found}

    assert name_related(0, 0) == {"C major", "F major", "G major", "A minor", "C minor"}
    assert name_related(1, 9) == {"A minor", "D minor", "E minor", "C major", "A major"}


def test_confidence_falls_where_a_piece_is_in_two_keys():
    home, far = piece("C", "major"), piece("F#", "major")
    both = key(Audio(y=np.concatenate([home.y, far.y]), sr=SR))
    assert both["confidence"] < min(key(home)["confidence"], key(far)["confidence"])


def drums() -> Audio:
    """A sweep from 200 Hz down as a kick, and noise as a snare, for 16 s."""
    y = sound.silence(16.0, sr=SR).y.copy()
    t = np.arange(5000) / SR
    kick = np.sin(2 * np.pi * (50 * t + 4.5 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.07)
    snare = np.random.default_rng(0).standard_normal(5000) * np.exp(-t / 0.05) * 0.2
    for beat in range(31):
        start = beat * SR // 2
        y[start : start + 5000] += (kick, snare)[beat % 2].astype(np.float32)
    return Audio(y=y / 2, sr=SR)


WITHOUT_KEY = {
    "silence": (sound.silence(10.0, sr=SR), "silent"),
    "a constant": (Audio(y=np.full(10 * SR, 0.5, np.float32), sr=SR), "silent"),
    "what nobody hears": (sound.music(1, duration_s=8.0, sr=SR, channels=1), "silent"),
    "one sample": (sound.silence(1 / SR, sr=SR), "shorter than 3 s"),
    "less than three seconds": (sound.noise(0, 2.99, sr=SR), "shorter than 3 s"),
    "a few clicks": (sound.click_track(10.0, 20.0), "too little sound"),
    "noise": (sound.noise(0, 20.0, sr=SR), "no pitch"),
    "drums": (drums(), "no pitch"),
    "one tone": (sound.tone(440.0, 10.0, sr=SR), "fewer than three pitches"),
}


@pytest.mark.parametrize("name", WITHOUT_KEY)
def test_what_has_no_key_has_a_reason(name):
    audio, reason = WITHOUT_KEY[name]
    if name == "what nobody hears":
        audio = Audio(y=audio.y * np.float32(1e-4), sr=audio.sr)
    assert key(audio) == {**NOTHING, "reason": reason}


@pytest.mark.parametrize("sr", [8000, 11025, 44100, 192000])
def test_it_is_the_same_at_any_rate(sr):
    found = key(piece("E", "minor", sr=sr))
    assert (found["key"], found["mode"]) == ("E", "minor")
    assert found["tuning_cents"] == pytest.approx(0.0, abs=TUNING_TOLERANCE_CENTS)


def test_channels_are_averaged_and_loudness_does_not_matter():
    mono = piece("F", "major")
    found = key(mono)
    assert key(Audio(y=np.stack([mono.y] * 8), sr=SR)) == found
    quiet = key(Audio(y=mono.y * np.float32(0.125), sr=SR))
    assert quiet["key"] == found["key"]
    assert quiet["confidence"] == pytest.approx(found["confidence"], abs=0.02)


def test_blocks_do_not_change_the_result(monkeypatch):
    audio = piece("B", "major")
    found = key(audio)
    monkeypatch.setattr(tonality, "BLOCK_FRAMES", 3)
    assert key(audio) == found


def test_the_result_is_plain_and_the_same_each_time():
    audio = piece("G#", "minor")
    assert json.loads(json.dumps(key(audio))) == key(audio)


def test_a_long_file_is_never_in_memory_as_a_whole():
    audio = piece("C", "major", duration_s=60.0)
    long = Audio(y=np.tile(audio.y, 10), sr=SR)
    key(audio)
    tracemalloc.start()
    try:
        found = key(long)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found["key"] == "C"
    assert most < long.y.nbytes / 4
