"""Loudness of files, by their channels and rates, and against other meters.

`test_loudness_meter` has the signals of EBU Tech 3341 and 3342.
"""

from __future__ import annotations

import re
import struct
import subprocess
import warnings

import numpy as np
import pytest
import soxr

from segue import codec
from segue.features.ebu_r128 import loudness, weigh_channels
from segue.media.audio import Audio
from segue.media.ffmpeg import find_ffmpeg
from segue.testing import sound

pytestmark = pytest.mark.slow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what another package says of itself at import
    import pyloudnorm

SR = 48000
# What EBU Tech 3341, table 1, allows a meter.
LOUDNESS_TOLERANCE_LU = 0.1
TRUE_PEAK_ABOVE_DB, TRUE_PEAK_BELOW_DB = 0.2, 0.4
# Two meters of the same standard, which begin their blocks and round their filters apart.
METERS_APART_LU = 0.1
# ffmpeg's meter has the same filter at 48 kHz, seeks maxima in steps of 100 ms only, and rounds the
# true peak, which its own resampler finds, to 0.1 dB.
FFMPEG_LU, FFMPEG_MAXIMUM_LU, FFMPEG_PEAK_DB = 0.02, 0.3, 0.15


@pytest.fixture
def measure(open_media, tmp_path):
    """Write sound as floats, which may pass full scale, and measure the file."""

    def measured(audio: Audio) -> dict[str, object]:
        path = tmp_path / "a.wav"
        path.write_bytes(codec.encode("audio/wav", audio).data)
        return loudness(open_media(path))

    return measured


@pytest.fixture
def measure_places(open_media, tmp_path):
    """Write a file that declares the places of its channels, and measure it."""

    def measured(y: np.ndarray, mask: int) -> dict[str, object]:
        path = tmp_path / "a.wav"
        path.write_bytes(_build_header(y, mask) + np.ascontiguousarray(y.T).tobytes())
        return loudness(open_media(path))

    return measured


def _build_header(y: np.ndarray, mask: int) -> bytes:
    channels, frames = y.shape
    block = 4 * channels
    ieee_float = struct.pack("<I", 3) + bytes.fromhex("0000 1000 8000 00aa00389b71")
    form = struct.pack("<HHIIHHHHI", 0xFFFE, channels, SR, SR * block, block, 32, 22, 32, mask)
    form += ieee_float
    riff_size = 4 + 8 + len(form) + 8 + frames * block
    head = struct.pack("<4sI4s4sI", b"RIFF", riff_size, b"WAVE", b"fmt ", len(form)) + form
    return head + struct.pack("<4sI", b"data", frames * block)


# Places of a WAV file: 5.0 with the surround channels behind or at the sides, and 5.1.
@pytest.mark.parametrize("mask", [0x37, 0x607, 0x3F, 0x60F, 0])
def test_surround_sound_is_weighed_as_in_case_6_of_ebu_tech_3341(measure_places, mask):
    levels = [-28.0, -28.0, -24.0, -30.0, -30.0]
    if mask & 8:
        levels.insert(3, -3.0)
    y = np.stack([sound.tone(1000.0, 20.0, sr=SR, peak_dbfs=db).y for db in levels])
    measured = measure_places(y, mask)
    assert measured["integrated_lufs"] == pytest.approx(-23.0, abs=LOUDNESS_TOLERANCE_LU)
    assert measured["channel_sample_peaks_dbfs"] == pytest.approx(levels, abs=0.01)


def find_range(short_term_lufs: np.ndarray) -> float:
    """The loudness range after EBU Tech 3342, from the loudness of windows of 3 s."""
    if not short_term_lufs.size:
        return 0.0
    audible = short_term_lufs[short_term_lufs > -70.0]
    gate_lufs = 10 * np.log10(np.mean(10 ** (audible / 10))) - 20.0
    loud = np.sort(audible[audible > gate_lufs])
    low, high = (loud[int(share * (len(loud) - 1) + 0.5)] for share in (0.1, 0.95))
    return float(high - low)


def measure_with_ffmpeg(path: str) -> dict[str, float]:
    meter = "ebur128=metadata=1:peak=true:framelog=verbose,ametadata=print:file=-"
    done = subprocess.run(
        [find_ffmpeg(), "-nostdin", "-i", path, "-af", meter, "-f", "null", "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    )

    def find_values(key: str) -> list[float]:
        return [float(v) for v in re.findall(rf"lavfi\.r128\.{key}=(-?[\d.]+|-?inf)", done.stdout)]

    (true_peak,) = re.findall(r"True peak:\s+Peak:\s+(-?[\d.]+) dBFS", done.stderr)
    # Its own range counts the percentiles otherwise, and windows that begin before the file.
    short_term = np.array(find_values("S")[29:])
    return {
        "integrated_lufs": find_values("I")[-1],
        "range_lu": find_range(short_term),
        "momentary_max_lufs": max(find_values("M")),
        "short_term_max_lufs": max(find_values("S")),
        "true_peak_dbtp": float(true_peak),
    }


def fade(audio: Audio, low_db: float) -> Audio:
    """Let sound swell from a level and fade to it, twice."""
    t = np.linspace(0, 4 * np.pi, audio.y.shape[-1])
    gain = 10 ** (low_db / 20 * (0.5 + 0.5 * np.cos(t)))
    return Audio(y=(audio.y * gain).astype(np.float32), sr=audio.sr)


SOUNDS = {
    "music": sound.music(0, duration_s=60.0, sr=SR),
    "mono": sound.music(1, duration_s=30.0, sr=SR, channels=1),
    "swell": fade(sound.music(2, duration_s=60.0, sr=SR), -35.0),
    "noise": fade(sound.noise(0, 60.0, sr=SR, channels=2), -20.0),
    "tones": fade(sound.tone(80.0, 60.0, sr=SR, channels=2), -20.0),
    "5.1": fade(sound.noise(1, 30.0, sr=SR, channels=6), -15.0),
    "clicks": sound.click_track(95.0, 30.0, sr=SR, channels=2),
}


@pytest.mark.parametrize("audio", SOUNDS.values(), ids=SOUNDS)
def test_ffmpeg_agrees_at_48_khz(open_media, tmp_path, audio):
    # Blocks that begin before the file, which ffmpeg counts, are below the gate then.
    y = np.pad(audio.y, [*[(0, 0)] * (audio.y.ndim - 1), (SR, 0)])
    path = tmp_path / "a.wav"
    path.write_bytes(codec.encode("audio/wav", Audio(y=y, sr=SR)).data)
    measured, wanted = loudness(open_media(path)), measure_with_ffmpeg(str(path))
    assert measured["integrated_lufs"] == pytest.approx(wanted["integrated_lufs"], abs=FFMPEG_LU)
    assert measured["range_lu"] == pytest.approx(wanted["range_lu"], abs=FFMPEG_LU)
    assert measured["true_peak_dbtp"] == pytest.approx(wanted["true_peak_dbtp"], abs=FFMPEG_PEAK_DB)
    for key in ("momentary_max_lufs", "short_term_max_lufs"):
        assert wanted[key] - FFMPEG_LU < measured[key] < wanted[key] + FFMPEG_MAXIMUM_LU


@pytest.mark.parametrize(
    "audio",
    [
        sound.music(0, duration_s=15.0),
        sound.music(1, duration_s=15.0, channels=1),
        sound.noise(0, 10.0, sr=48000, channels=2),
        Audio(y=sound.music(2, duration_s=15.0).y * np.float32(0.05), sr=44100),
    ],
    ids=["music", "mono", "noise", "quiet"],
)
def test_another_meter_agrees(measure, audio):
    other = pyloudnorm.Meter(audio.sr).integrated_loudness(audio.y.T.astype(np.float64))
    assert measure(audio)["integrated_lufs"] == pytest.approx(other, abs=METERS_APART_LU)


@pytest.mark.parametrize("sr", [8000, 22050, 44100, 96000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_sine_reads_what_it_was_made_for_at_any_rate(measure, sr, channels):
    audio = sound.sine_at_lufs(-18.0, 5.0, sr=sr, channels=channels)
    assert measure(audio)["integrated_lufs"] == pytest.approx(-18.0, abs=LOUDNESS_TOLERANCE_LU)


@pytest.mark.parametrize("sr", [1000, 2000, 3000, 8000, 11025, 22050, 32000, 96000, 1_411_200])
def test_noise_of_any_rate_measures_as_at_48_khz(measure, sr):
    noise = sound.noise(0, 2.0, sr=SR)
    native = Audio(y=soxr.resample(noise.y, SR, sr), sr=sr)
    at_48_khz = Audio(y=soxr.resample(native.y, sr, SR), sr=SR)
    measured, expected = (measure(audio)["integrated_lufs"] for audio in (native, at_48_khz))
    assert measured == pytest.approx(expected, abs=METERS_APART_LU)


def test_what_nobody_hears_is_not_loud(measure):
    ultrasound = sound.tone(30_000.0, 2.0, sr=96_000, fade_s=0.2)
    assert measure(ultrasound)["integrated_lufs"] is None


def test_the_peaks_of_a_low_rate_are_those_of_the_file_itself(measure):
    tone = sound.tone(2000.0, 1.0, sr=8000, peak_dbfs=-6.0, phase_rad=np.pi / 4, fade_s=0.1)
    measured = measure(tone)
    assert measured["sample_peak_dbfs"] == pytest.approx(-9.0, abs=0.1)
    assert measured["true_peak_dbtp"] == pytest.approx(-6.0, abs=TRUE_PEAK_BELOW_DB)


@pytest.mark.parametrize("channels", [9, 10, 11, 12, 16, 24, 32])
def test_every_channel_weighs_the_same_where_no_places_are_declared(measure, channels):
    one = sound.tone(1000.0, 1.0, sr=SR, peak_dbfs=-30.0)
    measured = measure(Audio(y=np.stack([one.y] * channels), sr=SR))
    expected_lufs = -33.0 + 10 * np.log10(channels)
    assert measured["integrated_lufs"] == pytest.approx(expected_lufs, abs=LOUDNESS_TOLERANCE_LU)
    assert measured["true_peak_dbtp"] == pytest.approx(-30.0, abs=TRUE_PEAK_ABOVE_DB)


# Front left, side left, rear left, top front left and low frequency, of 7.1.4 channels.
@pytest.mark.parametrize(("place", "weight"), [(0, 1.0), (6, 1.41), (4, 1.0), (8, 1.0), (3, 0.0)])
def test_declared_places_weigh_as_in_table_4_of_bs_1770(measure_places, place, weight):
    y = np.zeros((12, 2 * SR), np.float32)
    y[place] = sound.tone(1000.0, 2.0, sr=SR, peak_dbfs=-20.0).y
    measured = measure_places(y, 0x2D63F)["integrated_lufs"]
    if weight:
        expected_lufs = -23.0 + 10 * np.log10(weight)
        assert measured == pytest.approx(expected_lufs, abs=LOUDNESS_TOLERANCE_LU)
    else:
        assert measured is None


S = 1.41


@pytest.mark.parametrize(
    ("mask", "weights"),
    [
        (0, [1.0]),
        (0, [1.0, 1.0]),
        (0, [1.0, 1.0, 0.0]),
        (0, [1.0, 1.0, 1.0, S]),
        (0, [1.0, 1.0, 1.0, S, S]),
        (0, [1.0, 1.0, 1.0, 0.0, S, S]),
        (0, [1.0, 1.0, 1.0, 0.0, S, S, S]),
        (0, [1.0, 1.0, 1.0, 0.0, S, S, S, S]),
        (0, [1.0] * 9),
        (0x7, [1.0, 1.0, 1.0]),
        (0x7, [1.0, 1.0, 1.0, S]),  # too few places count as none
        (0x37, [1.0] * 16),
        (0x600, [S, S]),
        (0x8, [0.0]),
        (0x38130, [S] * 6),
        (0x7AC0, [1.0] * 2 + [S] + [1.0] * 4),  # 9: side left
        (0x3063F, [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, S, S, 1.0, 1.0]),
    ],
)
def test_channels_weigh_by_their_places(mask, weights):
    assert weigh_channels(mask, len(weights)) == weights


@pytest.mark.parametrize("channels", range(3, 9))
def test_ffmpeg_weighs_undeclared_channels_alike(measure_places, tmp_path, channels):
    y = sound.noise(channels, 2.0, sr=SR, channels=channels).y
    measured = measure_places(y, 0)
    wanted = measure_with_ffmpeg(str(tmp_path / "a.wav"))
    assert measured["integrated_lufs"] == pytest.approx(wanted["integrated_lufs"], abs=FFMPEG_LU)


@pytest.mark.parametrize("doublings", [2, 4, 6])
def test_samples_far_above_full_scale_are_as_loud_as_they_are(measure, doublings):
    plain = sound.music(0, duration_s=8.0)
    loud = Audio(y=plain.y * np.float32(2.0**doublings), sr=plain.sr)
    gain_db = 20 * np.log10(2.0) * doublings
    below, above = measure(plain), measure(loud)
    for key in ("integrated_lufs", "true_peak_dbtp", "sample_peak_dbfs"):
        assert above[key] - below[key] == pytest.approx(gain_db, abs=LOUDNESS_TOLERANCE_LU)
    assert above["range_lu"] == pytest.approx(below["range_lu"], abs=LOUDNESS_TOLERANCE_LU)


def test_one_click_far_above_full_scale_does_not_hide_the_rest(measure):
    music = sound.music(0, duration_s=8.0)
    y = music.y.copy()
    y[..., music.sr] = 4.0
    expected = measure(music)["integrated_lufs"]
    assert measure(Audio(y=y, sr=music.sr))["integrated_lufs"] == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("sr", [1000, 44100, 768000])
@pytest.mark.parametrize("frames", [1, 2, 10])
def test_a_few_samples_have_a_true_peak(measure, sr, frames):
    tone = sound.tone(0.23 * sr, 1000 / sr, sr=sr, peak_dbfs=-3.0)
    measured = measure(Audio(y=tone.y[100 : 100 + frames], sr=sr))
    assert measured["integrated_lufs"] is None
    assert measured["sample_peak_dbfs"] is not None
    assert measured["true_peak_dbtp"] >= measured["sample_peak_dbfs"]


def test_a_peak_between_the_last_samples_is_a_true_peak(measure):
    y = np.zeros(SR, np.float32)
    y[-2:] = 0.5
    measured = measure(Audio(y=y, sr=SR))
    assert measured["true_peak_dbtp"] >= measured["sample_peak_dbfs"] + 1.0


@pytest.mark.parametrize("sr", [44100, 88200, 352800])
def test_a_true_peak_is_never_below_that_of_the_samples(measure, sr):
    measured = measure(sound.noise(1, 1.0, sr=sr))
    assert measured["true_peak_dbtp"] >= measured["sample_peak_dbfs"]


def test_mono_reads_three_lu_less_than_the_same_on_two(measure):
    one, two = (measure(sound.tone(1000.0, 5.0, channels=n)) for n in (1, 2))
    assert two["integrated_lufs"] - one["integrated_lufs"] == pytest.approx(3.01, abs=0.02)


def test_a_result_is_finer_than_a_hundredth(measure):
    measured = measure(sound.sine_at_lufs(-18.374, 5.0))
    assert measured["integrated_lufs"] == pytest.approx(-18.374, abs=0.001)
    assert measured["true_peak_dbtp"] == pytest.approx(-18.374, abs=0.005)


def test_full_scale_is_zero_and_not_minus_zero(measure):
    y = np.zeros(SR, np.float32)
    y[100] = 1.0 - 2.0**-20
    measured = measure(Audio(y=y, sr=192_000))
    assert str(measured["sample_peak_dbfs"]) == str(measured["true_peak_dbtp"]) == "0.0"


def test_digital_silence_has_no_loudness(measure):
    assert measure(sound.silence(5.0, channels=2)) == {
        "integrated_lufs": None,
        "range_lu": None,
        "momentary_max_lufs": None,
        "short_term_max_lufs": None,
        "true_peak_dbtp": None,
        "sample_peak_dbfs": None,
        "channel_sample_peaks_dbfs": [None, None],
    }


def test_what_is_below_the_gate_has_peaks_but_no_loudness(measure):
    measured = measure(sound.tone(1000.0, 5.0, peak_dbfs=-80.0, channels=2))
    assert measured["integrated_lufs"] is None
    assert measured["range_lu"] is None
    assert measured["momentary_max_lufs"] == pytest.approx(-80.0, abs=LOUDNESS_TOLERANCE_LU)
    assert measured["short_term_max_lufs"] == pytest.approx(-80.0, abs=LOUDNESS_TOLERANCE_LU)
    assert measured["sample_peak_dbfs"] == pytest.approx(-80.0, abs=0.01)
    assert measured["true_peak_dbtp"] == pytest.approx(-80.0, abs=TRUE_PEAK_BELOW_DB)


@pytest.mark.parametrize("duration_s", [0.001, 0.05, 0.3])
def test_what_is_shorter_than_a_block_has_no_loudness(measure, duration_s):
    measured = measure(sound.tone(1000.0, duration_s, channels=2))
    assert measured["integrated_lufs"] is measured["momentary_max_lufs"] is None
    assert measured["sample_peak_dbfs"] == pytest.approx(-6.0, abs=0.1)


@pytest.mark.parametrize("duration_s", [0.4, 2.0, 2.99, 3.0, 3.99, 4.0])
def test_what_is_shorter_than_some_windows_has_no_such_loudness(measure, duration_s):
    measured = measure(sound.tone(1000.0, duration_s, sr=SR))
    assert measured["integrated_lufs"] is not None
    assert measured["momentary_max_lufs"] is not None
    assert (measured["short_term_max_lufs"] is None) == (duration_s < 3.0)
    assert (measured["range_lu"] is None) == (duration_s < 4.0)


def test_one_loud_moment_in_silence_has_no_range(measure):
    y = np.zeros(10 * SR, np.float32)
    y[SR : SR + SR // 10] = sound.tone(1000.0, 0.1, sr=SR, peak_dbfs=-60.0).y
    measured = measure(Audio(y=y, sr=SR))
    assert measured["integrated_lufs"] == pytest.approx(-69.0, abs=1.0)
    assert measured["range_lu"] is None


def test_one_silent_channel_is_told_from_the_other(measure):
    y = sound.tone(1000.0, 1.0, peak_dbfs=-12.0, channels=2).y.copy()
    y[1] = 0.0
    peaks = measure(Audio(y=y, sr=44100))["channel_sample_peaks_dbfs"]
    assert peaks == [pytest.approx(-12.0, abs=0.01), None]


def test_the_source_is_not_decoded_again(open_media, tmp_path):
    path = sound.write(sound.sine_at_lufs(-20.0, 5.0), str(tmp_path / "a.flac"))
    media = open_media(path)
    media.audio()
    (tmp_path / "a.flac").unlink()
    assert loudness(media)["integrated_lufs"] == pytest.approx(-20.0, abs=LOUDNESS_TOLERANCE_LU)
