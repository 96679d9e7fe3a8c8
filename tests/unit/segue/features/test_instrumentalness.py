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


@pytest.mark.parametrize("channels", [1, 2])
def test_a_voice_counts_only_where_separated_vocals_are_heard(channels):
    sr = 8000
    y = np.zeros((channels, 100 * sr), np.float32)
    y[:, : 10 * sr] = 0.1
    y[:, 10 * sr :] = 1e-3  # -60 dBFS: what a separation leaves of an instrument
    vocals = Audio(y=y if channels > 1 else y[0], sr=sr)
    speech = make_speech((0.0, 10.0, "singing"), (50.0, 80.0, "singing"))
    assert instrumentalness(speech)["voice_share"] == pytest.approx(0.4)
    found = instrumentalness(speech, vocals)
    assert found["voice_share"] == pytest.approx(0.1)
    assert found["instrumentalness"] == pytest.approx(0.8)
    lower = instrumentalness(speech, vocals, vocals_floor_dbfs=-70.0)
    assert lower["voice_share"] == pytest.approx(0.4)


def test_a_voice_at_the_end_of_the_file_and_silence_are_no_trouble():
    vocals = Audio(y=np.ones(1, np.float32), sr=44_100)
    speech = make_speech((0.0, 0.001, "speech"), duration_s=0.001)
    assert instrumentalness(speech, vocals)["instrumentalness"] == 0.0
    assert instrumentalness(make_speech(), vocals)["instrumentalness"] == 1.0


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
        {"vocals_floor_dbfs": 0.0},
    ],
)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ConfigurationError, match="instrumentalness: "):
        instrumentalness(make_speech(), **params)
