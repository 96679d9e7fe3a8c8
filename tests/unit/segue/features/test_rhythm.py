"""Tempo and beats, on sound whose beats are known."""

from __future__ import annotations

import json

import librosa
import numpy as np
import pytest

from segue.errors import TooLarge
from segue.features import rhythm
from segue.features.rhythm import beats
from segue.media.audio import Audio
from segue.testing import sound

pytestmark = pytest.mark.slow

# MIREX: an estimated beat is right within 70 ms, and a tempo within 4 %. The line through steady
# beats is far better than that: one hop of 23 ms over a whole file.
WINDOW_S = 0.07
TEMPO_TOLERANCE = 0.002


def f_measure(estimated: list[float], reference: list[float]) -> float:
    """The share of beats that match one to one, as mir_eval.beat.f_measure counts it."""
    free = list(estimated)
    hits = 0
    for time_s in reference:
        near = [e for e in free if abs(e - time_s) <= WINDOW_S]
        if near:
            free.remove(min(near, key=lambda e: abs(e - time_s)))
            hits += 1
    return 2 * hits / (len(estimated) + len(reference))


@pytest.mark.parametrize("bpm", [60.0, 75.0, 90.0, 110.0, 120.0, 133.0, 150.0, 174.0])
def test_a_metronome_is_followed(bpm):
    found = beats(sound.click_track(bpm, 20.0, first_beat_s=0.25))
    assert found["tempo_bpm"] == pytest.approx(bpm, rel=TEMPO_TOLERANCE)
    truth = sound.beat_times(bpm, 20.0, first_beat_s=0.25)
    assert f_measure(found["beat_times_s"], truth) > 0.93


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("bpm", [90.0, 105.0, 128.0, 150.0])
def test_a_band_is_followed(bpm, seed):
    found = beats(sound.music(seed, bpm=bpm, duration_s=20.0, sr=22050, channels=1))
    assert found["tempo_bpm"] == pytest.approx(bpm, rel=TEMPO_TOLERANCE)
    assert f_measure(found["beat_times_s"], sound.beat_times(bpm, 20.0)) > 0.93


def test_a_missing_beat_does_not_change_the_tempo():
    audio = sound.click_track(120.0, 20.0)
    y = audio.y.copy()
    y[int(7.9 * 22050) : int(9.9 * 22050)] = 0.0
    assert beats(Audio(y=y, sr=22050))["tempo_bpm"] == pytest.approx(120.0, rel=TEMPO_TOLERANCE)


def test_the_beats_are_those_that_librosa_finds_in_the_samples():
    audio = sound.music(4, bpm=97.0, duration_s=20.0, sr=22050, channels=1)
    _, theirs = librosa.beat.beat_track(y=audio.y, sr=audio.sr, units="time")
    assert beats(audio)["beat_times_s"] == pytest.approx(theirs.tolist(), abs=1e-6)


def test_strengths_go_with_the_beats_and_tell_loud_from_soft():
    y = sound.click_track(120.0, 10.0).y.copy()
    y[5 * 22050 :] *= 0.3
    found = beats(Audio(y=y, sr=22050))
    times_s, strengths = (np.array(found[k]) for k in ("beat_times_s", "beat_strengths"))
    assert len(times_s) == len(strengths)
    assert strengths.min() >= 0.0
    assert strengths.max() == 1.0
    assert strengths[times_s < 4.8].mean() > 1.1 * strengths[times_s > 5.2].mean()


def test_channels_are_averaged():
    mono = sound.click_track(100.0, 8.0)
    stereo = Audio(y=np.stack([mono.y, mono.y]), sr=mono.sr)
    assert beats(stereo) == beats(mono)


NO_BEATS = {
    "silence": sound.silence(5.0, sr=22050),
    "one sample": sound.silence(1 / 22050, sr=22050),
    "a fifth of a second of clicks": sound.click_track(120.0, 0.2),
    "a fifth of a second of noise": sound.noise(0, 0.2, sr=22050),
    "one click": sound.click_track(10.0, 4.0),
    "a constant": Audio(y=np.full(22050, 0.5, np.float32), sr=22050),
}


@pytest.mark.parametrize("audio", NO_BEATS.values(), ids=NO_BEATS)
def test_where_there_are_no_beats_there_is_no_tempo(audio):
    assert beats(audio) == {"tempo_bpm": None, "beat_times_s": [], "beat_strengths": []}


def test_the_result_is_plain_and_the_same_each_time():
    audio = sound.music(0, duration_s=10.0, sr=22050, channels=1)
    found = beats(audio)
    assert json.loads(json.dumps(found)) == found
    assert beats(audio) == found


def test_parameters_are_passed_on():
    audio = sound.click_track(120.0, 10.0)
    assert beats(audio, start_bpm=60.0)["tempo_bpm"] == pytest.approx(60.0, rel=0.01)
    fine = beats(audio, hop_length=128)["beat_times_s"]
    assert all(round(t * 22050 / 128, 2).is_integer() for t in fine)


def test_a_long_file_is_estimated_in_chunks(monkeypatch):
    audio = sound.click_track(100.0, 30.0)
    at_once = beats(audio)
    monkeypatch.setattr(rhythm, "TEMPO_CHUNK_FRAMES", 500)
    assert beats(audio) == at_once


def test_the_envelope_in_chunks_is_that_of_librosa(monkeypatch):
    monkeypatch.setattr(rhythm, "ENVELOPE_CHUNK_FRAMES", 100)
    audio = sound.music(0, duration_s=10.0, sr=22050, channels=1)
    for hop_length in (128, 512):
        S = librosa.feature.melspectrogram(y=audio.y, sr=audio.sr, hop_length=hop_length)
        expected = librosa.onset.onset_strength(
            S=librosa.power_to_db(S), sr=audio.sr, hop_length=hop_length, aggregate=np.median
        )
        envelope = rhythm._compute_onset_envelope(audio, hop_length)
        assert envelope == pytest.approx(expected, abs=1e-3)


def test_audio_that_is_too_long_for_the_memory_is_refused_at_once(bound_memory):
    bound_memory(0.25)
    hours = np.broadcast_to(np.float32(0.0), 6 * 3600 * 22050)
    with pytest.raises(TooLarge, match=r"beats of 6\.0 hours needs .* resources\.memory_gib to 2"):
        beats(Audio(y=hours, sr=22050))
