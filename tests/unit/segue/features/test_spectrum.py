"""The picture: where things are in it, and that it is the same each time."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import librosa
import numpy as np
import pytest

from segue.errors import ConfigurationError, TooLarge
from segue.features import spectrum as module
from segue.features.spectrum import spectrogram
from segue.media.audio import Audio
from segue.testing import sound

pytestmark = pytest.mark.slow

# The plot within the picture, in pixels, and what the ticks of its axes touch of it.
TOP, BOTTOM = module.ABOVE_PX, module.BELOW_PX
LEFT, RIGHT = module.LEFT_PX, module.RIGHT_PX
RIM = 3
FLOAT32_OF_100_DB = 8e-6


def plot(picture: np.ndarray) -> np.ndarray:
    """The brightness of the plot, lowest frequency first."""
    inner = picture[TOP + RIM : -BOTTOM - RIM, LEFT + RIM : -RIGHT - RIM].astype(float).sum(axis=2)
    return inner[::-1]


def row_of(hz: float, sr: int, rows: int) -> float:
    low, high, at = librosa.hz_to_mel([module.FMIN_HZ, sr / 2, hz])
    return (at - low) / (high - low) * rows


@pytest.mark.parametrize("frequency_hz", [440.0, 1000.0, 3000.0, 8000.0])
def test_a_tone_is_a_line_at_its_frequency(frequency_hz):
    audio = sound.tone(frequency_hz, 5.0, sr=22050)
    brightness = plot(spectrogram(audio))
    brightest = brightness[:, 20:-20].mean(axis=1).argmax()
    assert brightest == pytest.approx(row_of(frequency_hz, 22050, len(brightness)), abs=6)


def test_a_sound_is_bright_when_it_sounds():
    y = np.concatenate([sound.silence(2.0, sr=22050).y, sound.noise(0, 2.0, sr=22050).y])
    brightness = plot(spectrogram(Audio(y=y, sr=22050))).mean(axis=0)
    middle = len(brightness) // 2
    assert brightness[: middle - 30].max() < 0.2 * brightness[middle + 30 :].min()


def test_silence_and_near_silence_are_dark():
    for audio in (sound.silence(1.0), sound.noise(0, 1.0, rms_dbfs=-110.0)):
        assert plot(spectrogram(audio)).max() < 200  # of 765


def test_the_loudest_point_is_white_down_to_a_sine_at_minus_60_dbfs():
    for level_dbfs, brightest in ((0.0, 0.0), (-55.0, 0.0), (-80.0, -20.0)):
        audio = sound.tone(500.0, 1.0, sr=22050, peak_dbfs=level_dbfs)
        levels = module._compute_levels_db(audio, 1000)
        # A sine that lies between two bands has less in each.
        assert levels.max() == pytest.approx(brightest, abs=3.0)
        assert levels.max() <= 1e-4


def test_quiet_music_is_as_bright_as_loud_music():
    loud = sound.music(0, duration_s=3.0, sr=22050, channels=1)
    quiet = Audio(y=loud.y * np.float32(0.01), sr=22050)
    assert np.abs(plot(spectrogram(loud)) - plot(spectrogram(quiet))).mean() < 3


def test_the_picture_has_the_size_asked_for():
    audio = sound.tone(440.0, 1.0)
    for width_px, height_px in ((1600, 600), (801, 333), (400, 200)):
        picture = spectrogram(audio, width_px=width_px, height_px=height_px)
        assert picture.shape == (height_px, width_px, 3)
        assert picture.dtype == np.uint8


@pytest.mark.parametrize("size", [{"width_px": 399}, {"height_px": 100}])
def test_a_picture_without_room_for_its_axes_is_a_mistake(size):
    with pytest.raises(ConfigurationError, match=r"use at least 400 by 200"):
        spectrogram(sound.tone(), **size)


@pytest.mark.parametrize("range_db", [0.0, -80.0, float("nan"), float("inf")])
def test_a_range_that_is_none_is_a_mistake(range_db):
    with pytest.raises(ConfigurationError, match=r"it must be a number above 0"):
        spectrogram(sound.tone(), range_db=range_db)


@pytest.mark.parametrize("sr", [8000, 22050, 48000, 192000])
@pytest.mark.parametrize("duration_s", [0.0005, 0.3, 3.0])
def test_any_rate_and_length_can_be_drawn(sr, duration_s):
    assert spectrogram(sound.tone(440.0, duration_s, sr=sr)).shape == (600, 1600, 3)


@pytest.mark.parametrize("sr", [1000, 3850, 22050, 192000])
def test_no_band_is_empty_at_any_rate(sr):
    levels = module._compute_levels_db(sound.noise(0, 1.0, sr=sr), 500)
    assert levels.max(axis=1).min() > -40.0


def test_beats_are_marked_above_the_plot_and_change_nothing_else():
    audio = sound.click_track(60.0, 8.0)
    beats = {"beat_times_s": sound.beat_times(60.0, 8.0)}
    bare, marked = spectrogram(audio), spectrogram(audio, beats)
    changed = np.flatnonzero((bare != marked).any(axis=(0, 2)))
    assert not (bare != marked)[TOP:].any()
    width = bare.shape[1] - LEFT - RIGHT
    expected = LEFT + np.array(beats["beat_times_s"]) / 8.0 * width
    assert all(np.abs(expected - column).min() <= 2 for column in changed)
    assert all(np.abs(changed - column).min() <= 2 for column in expected)


def test_so_many_beats_that_they_would_touch_are_left_out():
    audio = sound.silence(60.0, sr=8000)
    beats = {"beat_times_s": np.linspace(0, 59, 1000).tolist()}
    assert np.array_equal(spectrogram(audio), spectrogram(audio, beats))


def test_a_long_file_is_reduced_to_the_columns_of_the_picture():
    audio = sound.noise(0, 600.0, sr=8000)
    levels = module._compute_levels_db(audio, 500)
    assert levels.shape == (module.N_MELS, 500)
    # Noise is everywhere as loud: no column lost or gained a frame.
    columns = levels.mean(axis=0)
    assert columns.max() - columns.min() < 1.0


def test_levels_are_those_of_a_logarithm():
    power = np.geomspace(1e-10, 2.0, 10_001).astype(np.float32)
    levels = module._power_to_db(power)
    assert levels.dtype == np.float32
    assert np.abs(levels - 10 * np.log10(power.astype(np.float64))).max() <= FLOAT32_OF_100_DB


def test_between_the_middles_of_columns_levels_are_interpolated():
    levels = np.array([[0.0, 10.0, 30.0]], np.float32)
    assert module._stretch(levels, 6).tolist() == [[0.0, 2.5, 7.5, 15.0, 25.0, 30.0]]
    assert module._stretch(levels, 3) is levels
    assert module._stretch(levels[:, :1], 4).tolist() == [[0.0] * 4]


def test_colours_run_from_black_to_white_and_stay_there():
    colours = module._colour(np.array([-200.0, -80.0, -40.0, 0.0, 5.0], np.float32), 80.0)
    assert colours.sum(axis=1).tolist() == sorted(colours.sum(axis=1).tolist())
    assert colours[0].tolist() == colours[1].tolist() == [0, 0, 3]
    assert colours[3].tolist() == colours[4].tolist() == [251, 252, 191]


@pytest.mark.parametrize(
    ("time_s", "step_s", "label"),
    [
        (0.0, 5, "0:00"),
        (65.0, 5, "1:05"),
        (0.2, 0.1, "0:00.2"),
        (60.5, 0.5, "1:00.5"),
        (3600.0, 600, "1:00:00"),
        (7384.0, 1, "2:03:04"),
    ],
)
def test_time_is_labelled_as_on_a_clock(time_s, step_s, label):
    assert module._format_time(time_s, step_s) == label


def test_the_picture_is_the_same_in_every_process_and_needs_no_pyplot():
    audio = sound.music(2, duration_s=4.0, sr=22050, channels=1)
    beats = {"beat_times_s": sound.beat_times(120.0, 4.0)}
    expected = hashlib.sha256(spectrogram(audio, beats).tobytes()).hexdigest()
    program = (
        "import hashlib, sys\n"
        "from segue.features.spectrum import spectrogram\n"
        "from segue.testing import sound\n"
        "audio = sound.music(2, duration_s=4.0, sr=22050, channels=1)\n"
        "picture = spectrogram(audio, {'beat_times_s': sound.beat_times(120.0, 4.0)})\n"
        "print(hashlib.sha256(picture.tobytes()).hexdigest(), 'matplotlib.pyplot' in sys.modules)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [expected, "False"]


def test_audio_that_is_too_long_for_the_memory_is_refused_at_once(bound_memory):
    bound_memory(0.25)
    hours = np.broadcast_to(np.float32(0.0), 6 * 3600 * 22050)
    with pytest.raises(TooLarge, match=r"spectrogram of 6\.0 hours needs .*resources\.memory_gib"):
        spectrogram(Audio(y=hours, sr=22050))
