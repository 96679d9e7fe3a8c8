"""Loudness, on the signals of EBU Tech 3341 and 3342 and against another meter."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest
import soxr

from segue import codec
from segue.features.ebu_r128 import loudness
from segue.media.audio import Audio
from segue.testing import sound

pytestmark = pytest.mark.slow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what another package says of itself at import
    import pyloudnorm

SR = 48000
# What EBU Tech 3341, table 1, and Tech 3342, table 1, allow a meter.
LOUDNESS_TOLERANCE_LU = 0.1
RANGE_TOLERANCE_LU = 1.0
TRUE_PEAK_ABOVE_DB, TRUE_PEAK_BELOW_DB = 0.2, 0.4
# Two meters of the same standard, which begin their blocks and round their filters apart.
METERS_APART_LU = 0.1


@pytest.fixture
def measure(open_media, tmp_path):
    """Write sound as floats, which may pass full scale, and measure the file."""

    def measured(audio: Audio) -> dict[str, object]:
        path = tmp_path / "a.wav"
        path.write_bytes(codec.encode("audio/wav", audio).data)
        return loudness(open_media(path))

    return measured


def tones(*steps: tuple[float, float]) -> Audio:
    """A stereo sine of 1 kHz through levels in dBFS, each for so many seconds."""
    y = np.concatenate([sound.tone(1000.0, s, sr=SR, peak_dbfs=db).y for db, s in steps])
    return Audio(y=np.stack([y, y]), sr=SR)


TECH_3341 = {
    "1": (tones((-23.0, 20)), -23.0),
    "2": (tones((-33.0, 20)), -33.0),
    "3": (tones((-36.0, 10), (-23.0, 60), (-36.0, 10)), -23.0),
    "4": (tones((-72.0, 10), (-36.0, 10), (-23.0, 60), (-36.0, 10), (-72.0, 10)), -23.0),
    "5": (tones((-26.0, 20), (-20.0, 20.1), (-26.0, 20)), -23.0),
}


@pytest.mark.parametrize(("audio", "integrated_lufs"), TECH_3341.values(), ids=TECH_3341)
def test_integrated_loudness_is_that_of_ebu_tech_3341(measure, audio, integrated_lufs):
    measured = measure(audio)["integrated_lufs"]
    assert measured == pytest.approx(integrated_lufs, abs=LOUDNESS_TOLERANCE_LU)


def test_five_channels_are_weighed_as_in_case_6_of_ebu_tech_3341(measure):
    levels = (-28.0, -28.0, -24.0, -30.0, -30.0)
    y = np.stack([sound.tone(1000.0, 20.0, sr=SR, peak_dbfs=db).y for db in levels])
    measured = measure(Audio(y=y, sr=SR))
    assert measured["integrated_lufs"] == pytest.approx(-23.0, abs=LOUDNESS_TOLERANCE_LU)
    assert measured["channel_sample_peaks_dbfs"] == pytest.approx(levels, abs=0.01)


TECH_3342 = {
    "1": (tones((-20.0, 20), (-30.0, 20)), 10.0),
    "2": (tones((-20.0, 20), (-15.0, 20)), 5.0),
    "3": (tones((-40.0, 20), (-20.0, 20)), 20.0),
    "4": (tones((-50.0, 20), (-35.0, 20), (-20.0, 20), (-35.0, 20), (-50.0, 20)), 15.0),
}


@pytest.mark.parametrize(("audio", "range_lu"), TECH_3342.values(), ids=TECH_3342)
def test_loudness_range_is_that_of_ebu_tech_3342(measure, audio, range_lu):
    assert measure(audio)["range_lu"] == pytest.approx(range_lu, abs=RANGE_TOLERANCE_LU)


# Cases 15 to 19: divisor of the rate, phase in degrees, amplitude, true peak in dBTP.
TRUE_PEAKS = [
    (4, 0.0, 0.50, -6.0),
    (4, 45.0, 0.50, -6.0),
    (6, 60.0, 0.50, -6.0),
    (8, 67.5, 0.50, -6.0),
    (4, 45.0, 1.41, 3.0),
]


@pytest.mark.parametrize(("divisor", "phase_deg", "amplitude", "true_peak_dbtp"), TRUE_PEAKS)
@pytest.mark.parametrize("sr", [44100, 48000])
def test_true_peak_is_that_between_the_samples(
    measure, sr, divisor, phase_deg, amplitude, true_peak_dbtp
):
    tone = sound.tone(
        sr / divisor,
        1.0,
        sr=sr,
        peak_dbfs=20 * np.log10(amplitude),
        phase_rad=np.radians(phase_deg),
        fade_s=0.1,
        channels=2,
    )
    measured = measure(tone)
    error_db = measured["true_peak_dbtp"] - true_peak_dbtp
    assert -TRUE_PEAK_BELOW_DB <= error_db <= TRUE_PEAK_ABOVE_DB
    sample_peak_dbfs = 20 * np.log10(np.abs(tone.y).max())
    assert measured["sample_peak_dbfs"] == pytest.approx(sample_peak_dbfs, abs=0.001)


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
def test_declared_places_weigh_as_in_table_4_of_bs_1770(open_media, tmp_path, place, weight):
    y = np.zeros((2 * SR, 12), np.float32)
    y[:, place] = sound.tone(1000.0, 2.0, sr=SR, peak_dbfs=-20.0).y
    path = tmp_path / "7.1.4.wav"
    path.write_bytes(_build_header(y, mask=0x2D63F) + y.tobytes())
    measured = loudness(open_media(path))["integrated_lufs"]
    if weight:
        expected_lufs = -23.0 + 10 * np.log10(weight)
        assert measured == pytest.approx(expected_lufs, abs=LOUDNESS_TOLERANCE_LU)
    else:
        assert measured is None


def _build_header(y: np.ndarray, mask: int) -> bytes:
    frames, channels = y.shape
    block = 4 * channels
    ieee_float = struct.pack("<I", 3) + bytes.fromhex("0000 1000 8000 00aa00389b71")
    form = struct.pack("<HHIIHHHHI", 0xFFFE, channels, SR, SR * block, block, 32, 22, 32, mask)
    form += ieee_float
    riff_size = 4 + 8 + len(form) + 8 + frames * block
    head = struct.pack("<4sI4s4sI", b"RIFF", riff_size, b"WAVE", b"fmt ", len(form)) + form
    return head + struct.pack("<4sI", b"data", frames * block)


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


def test_a_result_is_finer_than_a_tenth(measure):
    measured = measure(sound.sine_at_lufs(-18.37, 5.0))["integrated_lufs"]
    assert measured == pytest.approx(-18.37, abs=0.02)


def test_digital_silence_has_no_loudness(measure):
    assert measure(sound.silence(5.0, channels=2)) == {
        "integrated_lufs": None,
        "range_lu": None,
        "true_peak_dbtp": None,
        "sample_peak_dbfs": None,
        "channel_sample_peaks_dbfs": [None, None],
    }


def test_what_is_below_the_gate_has_peaks_but_no_loudness(measure):
    measured = measure(sound.tone(1000.0, 5.0, peak_dbfs=-80.0, channels=2))
    assert measured["integrated_lufs"] is None
    assert measured["range_lu"] is None
    assert measured["sample_peak_dbfs"] == pytest.approx(-80.0, abs=0.01)
    assert measured["true_peak_dbtp"] == pytest.approx(-80.0, abs=TRUE_PEAK_BELOW_DB)


@pytest.mark.parametrize("duration_s", [0.001, 0.05, 0.3])
def test_what_is_shorter_than_a_block_has_no_loudness(measure, duration_s):
    measured = measure(sound.tone(1000.0, duration_s, channels=2))
    assert measured["integrated_lufs"] is None
    assert measured["sample_peak_dbfs"] == pytest.approx(-6.0, abs=0.1)


def test_what_is_shorter_than_the_windows_of_the_range_has_none(measure):
    assert measure(sound.tone(1000.0, 2.0))["range_lu"] is None
    assert measure(sound.tone(1000.0, 2.0))["integrated_lufs"] is not None


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
