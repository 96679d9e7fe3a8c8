"""The windows with the most voice decide on the language, and doubt is a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segue.errors import ConfigurationError
from segue.features.language import Language, choose_windows, find_voice
from segue.media.audio import Audio

SR = 16_000
# What the tiny Whisper takes for a language.
TONES_HZ = {"fr": 500.0, "de": 5000.0}


def make(files: dict[str, Path], **params) -> Language:
    job = Language(**files, **params)
    job.setup()
    return job


def play(*parts: tuple[str, float]) -> Audio:
    sounds = []
    for language, duration_s in parts:
        times = np.arange(round(duration_s * SR)) / SR
        level = 0.1 if language else 0.0
        sounds.append(level * np.sin(2 * np.pi * TONES_HZ.get(language, 0.0) * times))
    return Audio(y=np.concatenate(sounds).astype(np.float32), sr=SR)


def make_speech(*stretches: tuple[float, float], kind: str = "speech") -> dict:
    return {"segments": [{"start_s": a, "end_s": b, "kind": kind} for a, b in stretches]}


@pytest.mark.parametrize("language", TONES_HZ)
def test_the_language_is_that_of_the_voice(whisper_files, language):
    found = make(whisper_files)(play((language, 30)), make_speech((0.0, 30.0)))
    assert found["language"] == language
    assert 0.5 < found["probability"] < 1
    assert (found["voice_s"], found["reason"]) == (30.0, None)


def test_an_intro_does_not_decide(whisper_files):
    audio = play(("fr", 90), ("de", 30), ("fr", 60))
    speech = make_speech((90.0, 120.0))
    speech["segments"].append({"start_s": 0.0, "end_s": 180.0, "kind": "music"})
    assert make(whisper_files)(audio, speech)["language"] == "de"


def test_windows_count_by_their_voice(whisper_files):
    audio = play(("de", 30), ("fr", 60))
    speech = make_speech((0.0, 10.0), (30.0, 90.0))
    whole = make(whisper_files)(audio, speech)
    first = make(whisper_files)(audio, make_speech((0.0, 10.0)))
    second = make(whisper_files)(audio, make_speech((30.0, 90.0)))
    assert (whole["language"], whole["voice_s"]) == ("fr", 70.0)
    # Of the rest, the other language has as much in one as in the other.
    rest = 1 - first["probability"]
    assert whole["probability"] < second["probability"]
    assert whole["probability"] > (6 * second["probability"]) / 7 + rest / 7 - rest


def test_singing_is_a_voice_and_music_is_none(whisper_files):
    job, audio = make(whisper_files), play(("fr", 30))
    assert job(audio, make_speech((0.0, 30.0), kind="singing"))["language"] == "fr"
    found = job(audio, make_speech((0.0, 30.0), kind="music"))
    assert found == {
        "language": None,
        "probability": None,
        "voice_s": 0.0,
        "reason": "there are 0.0 s with a voice, and 3.0 are needed",
    }


def test_seconds_are_a_float_where_there_are_none(whisper_files):
    found = make(whisper_files)(play(("fr", 1)), make_speech())
    assert repr(found["voice_s"]) == "0.0"


def test_too_little_voice_and_doubt_are_reasons(whisper_files):
    audio, speech = play(("fr", 30)), make_speech((1.0, 3.5))
    found = make(whisper_files)(audio, speech)
    assert (found["language"], found["probability"], found["voice_s"]) == (None, None, 2.5)
    found = make(whisper_files)(audio, make_speech((1.0, 3.97)))
    assert found["reason"] == "there are 2.97 s with a voice, and 3.0 are needed"
    assert make(whisper_files, min_voice_s=2.0)(audio, speech)["language"] == "fr"
    found = make(whisper_files, min_probability=0.99)(audio, make_speech((0.0, 30.0)))
    assert found["language"] is None
    assert found["reason"] == (
        f"fr is the most probable, with {found['probability']}, and 0.99 is needed"
    )


def test_a_short_file_at_an_end_and_several_channels_are_no_trouble(whisper_files):
    job = make(whisper_files, min_voice_s=0.0)
    one = Audio(y=np.ones(1, np.float32), sr=SR)
    assert job(one, make_speech((0.0, 0.001)))["voice_s"] == 0.001
    assert job(one, make_speech())["reason"] == "there are 0.0 s with a voice, and 0.0 are needed"
    audio, speech = play(("fr", 40)), make_speech((35.0, 40.0))
    eight = Audio(y=np.tile(audio.y, (8, 1)), sr=SR)
    assert job(eight, speech) == job(audio, speech)


def test_windows_begin_with_a_voice_and_do_not_overlap():
    assert choose_windows([(5.0, 10.0), (20.0, 50.0), (200.0, 215.0)], 3) == [
        (20.0, 30.0),
        (200.0, 15.0),
    ]
    assert choose_windows([(0.0, 1000.0)], 3) == [(0.0, 30.0), (30.0, 30.0), (60.0, 30.0)]
    assert choose_windows([(0.0, 1.0), (29.0, 31.0), (100.0, 102.0)], 1) == [(0.0, 2.0)]
    assert choose_windows([], 3) == []


@pytest.mark.parametrize("start_s", [0.07, 7.6, 12.34, 19.99])
def test_windows_that_meet_do_not_overlap(start_s):
    """Their starts are 30 s apart but for rounding."""
    found = choose_windows([(start_s, start_s + 90.0)], 3)
    assert [start for start, _ in found] == pytest.approx([start_s + 30.0 * n for n in range(3)])
    assert sum(lasting_s for _, lasting_s in found) == pytest.approx(90.0)


def test_a_voice_that_goes_from_speech_to_song_is_one_stretch():
    segments = [
        *make_speech((0.0, 2.0))["segments"],
        {"start_s": 1.0, "end_s": 9.0, "kind": "music"},
        *make_speech((2.0, 4.0), kind="singing")["segments"],
        *make_speech((5.0, 6.0))["segments"],
    ]
    assert find_voice(segments) == [(0.0, 4.0), (5.0, 6.0)]


def test_audio_at_another_rate_is_refused(whisper_files):
    with pytest.raises(ConfigurationError, match="8000 Hz: it must be at 16000"):
        make(whisper_files)(Audio(y=np.zeros(8000, np.float32), sr=8000), make_speech())


@pytest.mark.parametrize(
    "params", [{"windows": 0}, {"min_voice_s": -1.0}, {"min_probability": 1.1}]
)
def test_parameters_out_of_range_are_refused(whisper_files, params):
    with pytest.raises(ConfigurationError, match="language: "):
        Language(**whisper_files, **params)
