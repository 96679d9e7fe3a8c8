"""Any file to one rate and one number of channels."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import ConfigurationError, TooLarge
from segue.features.resampling import downsample
from segue.media import samples
from segue.media.audio import BLOCK_FRAMES, Audio
from segue.testing import sound

# soxr HQ has a stopband of more than 100 dB, and a passband that is flat to 0.01 dB.
ALIAS_DB = -100.0
LEVEL_TOLERANCE_DB = 0.01
# Half the length of its filter, in samples of the lower rate, where an end is still felt.
EDGE = 200


@dataclass(frozen=True)
class Held:
    """Media whose sound is at hand already."""

    held: Audio

    def audio(self) -> Audio:
        return self.held


def level_db(y: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(y, dtype=np.float64)) + 1e-30)


@pytest.mark.parametrize("sample_rate_hz", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("target_hz", [16000, 22050])
def test_a_sine_stays_a_sine_at_any_rate(sample_rate_hz, target_hz):
    audio = sound.tone(1000.0, 1.0, sr=sample_rate_hz)
    result = downsample(Held(audio), sample_rate_hz=target_hz)
    ideal = sound.tone(1000.0, 1.0, sr=target_hz)
    inner = slice(EDGE, -EDGE)
    assert result.sr == target_hz
    assert level_db(result.y[inner]) == pytest.approx(
        level_db(ideal.y[inner]), abs=LEVEL_TOLERANCE_DB
    )
    assert level_db(result.y[inner] - ideal.y[inner]) < level_db(ideal.y) - 90.0


@pytest.mark.parametrize("frequency_hz", [11_500.0, 15_000.0, 21_000.0])
@pytest.mark.parametrize("sample_rate_hz", [44100, 96000])
def test_what_is_above_the_new_band_does_not_come_back_as_an_alias(sample_rate_hz, frequency_hz):
    audio = sound.tone(frequency_hz, 1.0, sr=sample_rate_hz, peak_dbfs=0.0, fade_s=0.1)
    assert level_db(downsample(Held(audio)).y) < ALIAS_DB


def test_the_band_is_kept_up_to_nine_tenths():
    audio = sound.tone(0.9 * 11025, 1.0, sr=44100, peak_dbfs=-6.0)
    result = downsample(Held(audio)).y[EDGE:-EDGE]
    assert level_db(result) == pytest.approx(-9.01, abs=0.1)


@given(
    st.integers(1, 5000), st.sampled_from([8000, 11025, 44100, 48000, 96000]),
    st.sampled_from([8000, 16000, 22050]), st.sampled_from([1, 2]),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_the_length_is_the_duration_times_the_rate(frames, sample_rate_hz, target_hz, channels):
    audio = sound.noise(0, frames / sample_rate_hz, sr=sample_rate_hz, channels=channels)
    result = downsample(Held(audio), sample_rate_hz=target_hz)
    exact = frames * target_hz / sample_rate_hz
    assert result.y.ndim == 1
    assert len(result.y) >= 1
    assert abs(len(result.y) - max(1.0, exact)) <= 0.5


@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_of_many_blocks_has_no_seams(channels):
    frames = 2 * BLOCK_FRAMES + 12_345
    audio = sound.noise(0, frames / 44100, sr=44100, channels=channels)
    result = downsample(Held(audio), sample_rate_hz=16000, channels=channels)
    at_once = soxr.resample(np.ascontiguousarray(audio.y.T), 44100, 16000, quality="HQ").T
    assert result.y.shape == at_once.shape
    assert np.array_equal(result.y, at_once)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_long_file_gives_the_same_samples_from_a_temporary_file(monkeypatch, channels):
    audio = sound.noise(0, 13.0, sr=44100, channels=2)
    in_memory = downsample(Held(audio), channels=channels)
    monkeypatch.setattr(samples, "LARGE_BYTES", 0)
    mapped = downsample(Held(audio), channels=channels)
    assert np.array_equal(mapped.y, in_memory.y)


def test_audio_that_is_too_long_for_the_memory_is_refused_at_once(bound_memory):
    bound_memory(0.25)
    hours = np.broadcast_to(np.float32(0.0), 6 * 3600 * 22050)
    with pytest.raises(TooLarge, match=r"downsample of 6\.0 hours needs .*resources\.memory_gib"):
        downsample(Held(Audio(y=hours, sr=22050)))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_of_the_right_shape_is_returned_as_it_is(channels):
    audio = sound.noise(0, 13.0, sr=22050, channels=channels)
    result = downsample(Held(audio), channels=channels)
    assert np.array_equal(result.y, audio.y)


def test_one_channel_is_the_mean_of_all():
    y = np.random.default_rng(0).normal(size=(5, 1000)).astype(np.float32)
    for rows in (2, 5):
        result = downsample(Held(Audio(y=y[:rows], sr=22050)))
        assert result.y == pytest.approx(y[:rows].mean(axis=0), abs=1e-6)


def test_two_channels_of_one_are_copies():
    audio = sound.noise(0, 0.1, sr=22050)
    result = downsample(Held(audio), channels=2)
    assert np.array_equal(result.y, np.stack([audio.y, audio.y]))


def test_two_channels_of_five_and_one_follow_the_standard():
    left, right, centre, low, left_back, right_back = y = np.eye(6, dtype=np.float32)
    result = downsample(Held(Audio(y=y, sr=22050)), channels=2).y
    half = 0.5**0.5
    expected_left = (left + half * centre + half * left_back) / (1 + 2 * half)
    expected_right = (right + half * centre + half * right_back) / (1 + 2 * half)
    assert result[0] == pytest.approx(expected_left)
    assert result[1] == pytest.approx(expected_right)
    assert not result[:, int(low.argmax())].any()


@pytest.mark.parametrize("present", [3, 4, 5, 6, 7, 8, 9, 12])
def test_two_channels_of_any_number_cannot_clip_and_keep_left_and_right_apart(present):
    full = Audio(y=np.ones((present, 100), np.float32), sr=22050)
    assert np.abs(downsample(Held(full), channels=2).y).max() <= 1.0 + 1e-6
    left_only = np.zeros((present, 100), np.float32)
    left_only[0] = 1.0
    left, right = downsample(Held(Audio(y=left_only, sr=22050)), channels=2).y
    assert left.max() > 0
    assert right.max() == (0 if present <= 8 else pytest.approx(1 / present))


def test_a_real_file_goes_through(open_media, tmp_path):
    path = sound.write(sound.tone(440.0, 2.0, sr=48000, channels=2), str(tmp_path / "a.flac"))
    result = downsample(open_media(path))
    ideal = sound.tone(440.0, 2.0, sr=22050)
    assert result.y.shape == (44100,)
    # The file has 16 bits: their noise is at -98 dB.
    assert level_db(result.y[EDGE:-EDGE] - ideal.y[EDGE:-EDGE]) < -90.0


def test_a_long_file_never_stands_in_memory(open_media, tmp_path):
    path = sound.write(sound.silence(60.0, sr=96000, channels=2), str(tmp_path / "a.flac"))
    media = open_media(path)
    decoded_bytes = media.audio().y.nbytes
    tracemalloc.start()
    try:
        result = downsample(media)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most - result.y.nbytes < decoded_bytes / 8


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"channels": 3}, r"channels is 3: it must be 1 or 2"),
        ({"channels": 0}, r"channels is 0"),
        ({"sample_rate_hz": 0}, r"sample_rate_hz is 0: it must be from 1000 to 655350"),
        ({"sample_rate_hz": 10**6}, r"sample_rate_hz is 1000000"),
    ],
)
def test_a_parameter_out_of_range_is_a_mistake(parameters, message):
    with pytest.raises(ConfigurationError, match=message):
        downsample(Held(sound.tone()), **parameters)
