"""The number falls from 1 to 0 as the share of the time with a voice grows."""

from __future__ import annotations

import numpy as np
import pytest

from segue.errors import ConfigurationError
from segue.features.instrumentalness import instrumentalness
from segue.media.audio import Audio


def make_speech(*stretches: tuple[float, float, str], duration_s: float = 100.0) -> dict:
    segments = [{"start_s": start, "end_s": end, "kind": kind} for start, end, kind in stretches]

    def share(kind: str) -> float:
        return sum(s["end_s"] - s["start_s"] for s in segments if s["kind"] == kind) / duration_s

    return {
        "speechiness": share("speech"),
        "singing_share": share("singing"),
        "music_share": share("music"),
        "segments": segments,
        "reason": None,
    }


@pytest.mark.parametrize(
    ("voice_s", "expected"), [(0, 1.0), (5, 1.0), (10, 0.8), (17.5, 0.5), (30, 0.0), (100, 0.0)]
)
def test_the_number_falls_in_a_line_between_the_bounds(voice_s, expected):
    speech = make_speech((0.0, voice_s / 2, "singing"), (50.0, 50.0 + voice_s / 2, "speech"))
    found = instrumentalness(speech)
    assert found["instrumentalness"] == pytest.approx(expected)
    assert found["voice_share"] == pytest.approx(voice_s / 100)
    assert found["reason"] is None


def test_music_is_no_voice():
    assert instrumentalness(make_speech((0.0, 100.0, "music")))["instrumentalness"] == 1.0


def test_the_bounds_are_parameters():
    speech = make_speech((0.0, 50.0, "singing"))
    found = instrumentalness(speech, ignored_share=0.25, song_share=0.75)
    assert found["instrumentalness"] == 0.5


def play(level: float, *lengths_s: float, sr: int, channels: int = 1) -> Audio:
    """Return square waves at the level and 1,000 times below it in turns."""
    parts = [np.full(round(s * sr), level / 1000 ** (n % 2)) for n, s in enumerate(lengths_s)]
    y = np.concatenate(parts).astype(np.float32)
    y[1::2] *= -1
    return Audio(y=y if channels == 1 else np.tile(y, (channels, 1)), sr=sr)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("level", [1.0, 1e-2, 1e-3])
def test_a_voice_counts_only_where_separated_vocals_are_heard(channels, level):
    vocals = play(0.3 * level, 10, 90, sr=8000, channels=channels)  # 10 dB below the file
    audio = play(level, 100, sr=4000)
    speech = make_speech((0.0, 10.0, "singing"), (50.0, 80.0, "singing"))
    assert instrumentalness(speech)["voice_share"] == pytest.approx(0.4)
    found = instrumentalness(speech, vocals, audio)
    assert found["voice_share"] == pytest.approx(0.1)
    assert found["instrumentalness"] == pytest.approx(0.8)
    lower = instrumentalness(speech, vocals, audio, vocals_floor_db=-75.0)
    assert lower["voice_share"] == pytest.approx(0.4)
    higher = instrumentalness(speech, vocals, audio, vocals_floor_db=-9.0)
    assert higher["voice_share"] == 0.0


def test_a_voice_at_the_end_of_the_file_and_silence_are_no_trouble():
    vocals = Audio(y=np.ones(1, np.float32), sr=44_100)
    speech = make_speech((0.0, 0.001, "speech"), duration_s=0.001)
    assert instrumentalness(speech, vocals, vocals)["instrumentalness"] == 0.0
    assert instrumentalness(make_speech(), vocals, vocals)["instrumentalness"] == 1.0
    silence = Audio(y=np.zeros(8000, np.float32), sr=8000)
    assert instrumentalness(make_speech(), silence, silence)["instrumentalness"] == 1.0


def test_vocals_without_the_file_are_refused():
    vocals = Audio(y=np.ones(1, np.float32), sr=44_100)
    with pytest.raises(ConfigurationError, match="name both under needs, or neither"):
        instrumentalness(make_speech(), vocals)


def test_without_shares_there_is_no_number():
    speech = {**make_speech(), "reason": "the file is shorter than 0.025 s"}
    assert instrumentalness(speech) == {
        "instrumentalness": None,
        "voice_share": None,
        "reason": "the file is shorter than 0.025 s",
    }


@pytest.mark.parametrize(
    "params",
    [
        {"ignored_share": -0.1},
        {"ignored_share": 0.3},
        {"song_share": 1.1},
        {"vocals_floor_db": 0.0},
        {"vocals_floor_db": float("nan")},
    ],
)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ConfigurationError, match="instrumentalness: "):
        instrumentalness(make_speech(), **params)
