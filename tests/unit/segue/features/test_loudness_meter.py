"""The meter, on the signals of EBU Tech 3341 and 3342.

They are synthesised after the tables of both documents. Left out are cases 7 and 8 of Tech 3341,
which are cases 5 and 6 of Tech 3342: they are recordings of authentic programmes, which only the
EBU has (seq-3341-7_seq-3342-5 and seq-3341-2011-8_seq-3342-6).
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.signal

from segue.features.ebu_r128 import warm_up
from segue.features.loudness_meter import Loudness, LoudnessMeter
from segue.features.true_peak import HALF, QUARTER
from segue.media.audio import Audio, iterate_blocks
from segue.testing import sound

pytestmark = pytest.mark.slow

SR = 48_000
# What Tech 3341, table 1, and Tech 3342, table 1, allow a meter.
LOUDNESS_TOLERANCE_LU = 0.1
RANGE_TOLERANCE_LU = 1.0
TRUE_PEAK_ABOVE_DB, TRUE_PEAK_BELOW_DB = 0.2, 0.4
# What is left of that for this one, since all of these signals are exact.
OWN_TOLERANCE_LU = 0.02
SURROUND = (1.0, 1.0, 1.0, 1.41, 1.41)


def tones(*steps: tuple[float, float], sr: int = SR) -> Audio:
    """A stereo sine of 1 kHz through levels in dBFS, each for so many seconds."""
    frames = np.cumsum([0, *(round(s * sr) for _, s in steps)])
    y = np.sin(2 * np.pi * 1000 / sr * np.arange(frames[-1]))
    for (dbfs, _), start, end in zip(steps, frames[:-1], frames[1:], strict=True):
        y[start:end] *= 10 ** (dbfs / 20)
    return Audio(y=np.stack([y, y]).astype(np.float32), sr=sr)


def measure(audio: Audio, weights: tuple[float, ...] = ()) -> Loudness:
    meter = LoudnessMeter(audio.sr, weights or (1.0,) * audio.channels)
    for _, block in iterate_blocks(audio.y):
        meter.feed(block)
    return meter.measure()


SILENCE_DBFS = -math.inf
INTEGRATED = {
    "1": (tones((-23.0, 20)), -23.0),
    "2": (tones((-33.0, 20)), -33.0),
    "3": (tones((-36.0, 10), (-23.0, 60), (-36.0, 10)), -23.0),
    "4": (tones((-72.0, 10), (-36.0, 10), (-23.0, 60), (-36.0, 10), (-72.0, 10)), -23.0),
    "5": (tones((-26.0, 20), (-20.0, 20.1), (-26.0, 20)), -23.0),
}


@pytest.mark.parametrize(("audio", "wanted_lufs"), INTEGRATED.values(), ids=INTEGRATED)
def test_integrated_loudness_is_that_of_ebu_tech_3341(audio, wanted_lufs):
    assert measure(audio).integrated_lufs == pytest.approx(wanted_lufs, abs=LOUDNESS_TOLERANCE_LU)


@pytest.mark.parametrize("case", ["1", "2"])
def test_a_steady_tone_is_as_loud_at_each_moment_as_in_cases_1_and_2(case):
    audio, wanted_lufs = INTEGRATED[case]
    measured = measure(audio)
    for value in (measured.momentary_max_lufs, measured.short_term_max_lufs):
        assert value == pytest.approx(wanted_lufs, abs=OWN_TOLERANCE_LU)
    assert measured.range_lu == pytest.approx(0.0, abs=OWN_TOLERANCE_LU)


def test_five_channels_are_weighed_as_in_case_6_of_ebu_tech_3341():
    levels = (-28.0, -28.0, -24.0, -30.0, -30.0)
    y = np.stack([sound.tone(1000.0, 20.0, sr=SR, peak_dbfs=db).y for db in levels])
    measured = measure(Audio(y=y, sr=SR), SURROUND)
    assert measured.integrated_lufs == pytest.approx(-23.0, abs=LOUDNESS_TOLERANCE_LU)
    assert measured.sample_peaks_dbfs == pytest.approx(levels, abs=0.01)


def test_short_term_loudness_is_constant_as_in_case_9():
    audio = tones(*[(-20.0, 1.34), (-30.0, 1.66)] * 5)
    for start in range(0, audio.y.shape[1] - 3 * SR, SR // 10):
        part = Audio(y=audio.y[:, start : start + 3 * SR], sr=SR)
        maximum = measure(part).short_term_max_lufs
        assert maximum == pytest.approx(-23.0, abs=LOUDNESS_TOLERANCE_LU)


@pytest.mark.parametrize("number", range(1, 21))
def test_the_short_term_maximum_is_that_of_case_10(number):
    audio = tones((SILENCE_DBFS, 0.15 * number), (-23.0, 3), (SILENCE_DBFS, 1))
    maximum = measure(audio).short_term_max_lufs
    assert maximum == pytest.approx(-23.0, abs=LOUDNESS_TOLERANCE_LU)


def test_the_short_term_maximum_rises_as_in_case_11():
    meter = LoudnessMeter(SR, (1.0, 1.0))
    for number in range(20):
        before_s = 0.15 * number
        level = -38.0 + number
        part = tones((SILENCE_DBFS, before_s), (level, 3), (SILENCE_DBFS, 3 - before_s))
        meter.feed(part.y)
        maximum = meter.measure().short_term_max_lufs
        assert maximum == pytest.approx(level, abs=LOUDNESS_TOLERANCE_LU)


def test_momentary_loudness_is_constant_as_in_case_12():
    audio = tones(*[(-20.0, 0.18), (-30.0, 0.22)] * 25)
    for start in range(0, audio.y.shape[1] - 2 * SR // 5, SR // 20):
        part = Audio(y=audio.y[:, start : start + 2 * SR // 5], sr=SR)
        maximum = measure(part).momentary_max_lufs
        assert maximum == pytest.approx(-23.0, abs=LOUDNESS_TOLERANCE_LU)


@pytest.mark.parametrize("number", range(1, 21))
def test_the_momentary_maximum_is_that_of_case_13(number):
    audio = tones((SILENCE_DBFS, 0.02 * number), (-23.0, 0.4), (SILENCE_DBFS, 1))
    maximum = measure(audio).momentary_max_lufs
    assert maximum == pytest.approx(-23.0, abs=LOUDNESS_TOLERANCE_LU)


def test_the_momentary_maximum_rises_as_in_case_14():
    meter = LoudnessMeter(SR, (1.0, 1.0))
    for number in range(20):
        before_s = 0.02 * number
        level = -38.0 + number
        part = tones((SILENCE_DBFS, before_s), (level, 0.4), (SILENCE_DBFS, 0.4 - before_s))
        meter.feed(part.y)
        maximum = meter.measure().momentary_max_lufs
        assert maximum == pytest.approx(level, abs=LOUDNESS_TOLERANCE_LU)


# Cases 15 to 19: divisor of the rate, phase in degrees, amplitude, true peak in dBTP.
TRUE_PEAKS = {
    "15": (4, 0.0, 0.50, -6.0),
    "16": (4, 45.0, 0.50, -6.0),
    "17": (6, 60.0, 0.50, -6.0),
    "18": (8, 67.5, 0.50, -6.0),
    "19": (4, 45.0, 1.41, 3.0),
}


@pytest.mark.parametrize(
    ("divisor", "phase_deg", "amplitude", "wanted_dbtp"), TRUE_PEAKS.values(), ids=TRUE_PEAKS
)
@pytest.mark.parametrize("sr", [8_000, 44_100, 48_000, 96_000])
def test_true_peak_is_that_between_the_samples(sr, divisor, phase_deg, amplitude, wanted_dbtp):
    if sr == 96_000:
        # Two values per sample are as good only if the signal is half as high.
        divisor, phase_deg = 2 * divisor, phase_deg / 2
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
    error_db = measured.true_peak_dbtp - wanted_dbtp
    assert -TRUE_PEAK_BELOW_DB <= error_db <= TRUE_PEAK_ABOVE_DB
    sample_peak_dbfs = 20 * np.log10(np.abs(tone.y).max())
    assert measured.sample_peaks_dbfs == pytest.approx([sample_peak_dbfs] * 2, abs=0.001)


@pytest.mark.parametrize("offset", range(4), ids=["20", "21", "22", "23"])
def test_a_peak_between_the_samples_is_found_wherever_it_is(offset):
    # At four times the rate: one period of a quarter of the rate, amid lower ones of a sixth.
    slow = 0.5 * np.sin(2 * np.pi * np.arange(24 * 200) / 24)
    y = np.concatenate([slow, np.sin(2 * np.pi * np.arange(16) / 16), slow])
    y *= np.clip(np.minimum(np.arange(len(y)), np.arange(len(y))[::-1]) / 1920, 0, 1)
    low_pass = scipy.signal.firwin(1023, 1 / 4, window=("kaiser", 12.0))
    y = scipy.signal.fftconvolve(y, low_pass, mode="same")[offset::4].astype(np.float32)
    error_db = measure(Audio(y=y, sr=SR)).true_peak_dbtp
    assert -TRUE_PEAK_BELOW_DB <= error_db <= TRUE_PEAK_ABOVE_DB


RANGES = {
    "1": (((-20.0, 20), (-30.0, 20)), 10.0),
    "2": (((-20.0, 20), (-15.0, 20)), 5.0),
    "3": (((-40.0, 20), (-20.0, 20)), 20.0),
    "4": (((-50.0, 20), (-35.0, 20), (-20.0, 20), (-35.0, 20), (-50.0, 20)), 15.0),
}


@pytest.mark.parametrize(("steps", "wanted_lu"), RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("sr", [8_000, 44_100, 48_000, 96_000])
def test_loudness_range_is_that_of_ebu_tech_3342(sr, steps, wanted_lu):
    measured = measure(tones(*steps, sr=sr)).range_lu
    assert measured == pytest.approx(wanted_lu, abs=RANGE_TOLERANCE_LU)
    assert measured == pytest.approx(wanted_lu, abs=OWN_TOLERANCE_LU)


RATES_HZ = [1000, 8000, 11_025, 22_050, 44_100, 96_000, 192_000, 6_144_000]
TONES_HZ = [50.0, 300.0, 2000.0, 15_000.0]
# Of the filters of low rates, and of the ripple of what precedes those of high ones.
RATE_TOLERANCE_LU = {11_025: 0.04, 48_001: 0.005, 10_000_000: 0.012}


@pytest.mark.parametrize(
    ("sr", "frequency_hz"), [(sr, f) for sr in RATES_HZ for f in TONES_HZ if f < 0.45 * sr]
)
def test_a_tone_is_as_loud_at_any_rate(sr, frequency_hz):
    measured, wanted = (
        measure(sound.tone(frequency_hz, 0.6, sr=rate, peak_dbfs=-20.0)) for rate in (sr, SR)
    )
    (tolerance_lu, *_) = [lu for below, lu in RATE_TOLERANCE_LU.items() if sr < below]
    assert measured.integrated_lufs == pytest.approx(wanted.integrated_lufs, abs=tolerance_lu)


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 32])
def test_the_channels_add_up(channels):
    y = np.stack([sound.tone(1000.0, 1.0, sr=SR, peak_dbfs=-30.0).y] * channels)
    measured = measure(Audio(y=y, sr=SR))
    wanted_lufs = -33.01 + 10 * np.log10(channels)
    assert measured.integrated_lufs == pytest.approx(wanted_lufs, abs=OWN_TOLERANCE_LU)
    assert len(measured.sample_peaks_dbfs) == channels


def test_a_channel_without_weight_has_a_peak_only():
    y = np.stack([sound.noise(seed, 1.0, sr=SR).y for seed in range(3)])
    with_it, without_it = measure(Audio(y=y, sr=SR), (1.0, 1.0, 0.0)), measure(Audio(y[:2], SR))
    assert with_it.integrated_lufs == without_it.integrated_lufs
    assert with_it.sample_peaks_dbfs[:2] == without_it.sample_peaks_dbfs
    assert with_it.sample_peaks_dbfs[2] is not None


@pytest.mark.parametrize("peak", [1.0, 1e-31], ids=["loud", "almost silent"])
@pytest.mark.parametrize("sr", [44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_blocks_do_not_change_a_bit(sr, channels, peak):
    audio = sound.noise(3, 4.5, sr=sr, channels=channels)
    whole, parts = (LoudnessMeter(sr, (1.0,) * channels) for _ in range(2))
    rest = audio.y * np.float32(peak)
    whole.feed(rest)
    for frames in (1, 2, 30, 31, 32, 0, 441, 480, 100_000, 7, 1, rest.shape[-1]):
        parts.feed(rest[..., :frames])
        rest = rest[..., frames:]
    assert parts.measure() == whole.measure()
    assert np.array_equal(parts._energies[0], whole._energies[0])


def test_no_sound_gets_into_the_channel_that_makes_their_number_even():
    meter = LoudnessMeter(96_000, (1.0, 1.0, 1.0))
    meter.feed(sound.noise(0, 0.5, sr=96_000, channels=3).y)
    assert meter._state[:3].any(axis=(1, 2)).all()
    assert not meter._state[3].any()


def test_a_measurement_does_not_disturb_what_follows():
    audio = sound.music(0, duration_s=8.0)
    meter = LoudnessMeter(audio.sr, (1.0, 1.0))
    meter.feed(audio.y[:, : 5 * audio.sr])
    first = meter.measure()
    assert meter.measure() == first
    meter.feed(audio.y[:, 5 * audio.sr :])
    assert meter.measure() == measure(audio) != first


@pytest.mark.parametrize("order", ["C", "F"])
def test_samples_may_be_in_any_order_in_memory(order):
    audio = sound.noise(0, 1.0, sr=SR, channels=2)
    y = np.array(audio.y, order=order)
    assert measure(Audio(y=y, sr=SR)) == measure(audio)
    assert y.flags.writeable


def test_samples_that_are_not_aligned_are_measured():
    y = sound.noise(0, 1.0, sr=SR).y
    apart = np.frombuffer(b"\0" + y.tobytes(), np.uint8)[1:].view(np.float32)
    assert measure(Audio(y=apart, sr=SR)) == measure(Audio(y=y, sr=SR))


def test_another_number_of_channels_is_refused():
    meter = LoudnessMeter(SR, (1.0, 1.0))
    with pytest.raises(ValueError, match="3 channels; the meter was made for 2"):
        meter.feed(np.zeros((3, 100), np.float32))


@pytest.mark.parametrize("sr", [44_100, 96_000])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_skipped_could_not_be_the_true_peak(sr, seed):
    rng = np.random.default_rng(seed)
    # Loud and quiet places, and between them levels at which little is missing to the peak.
    levels = rng.choice([0.01, 0.3, 0.4, 0.45, 0.5, 1.0], 200).repeat(100)
    y = (rng.uniform(-1, 1, 20_000) * levels).astype(np.float32)
    tables = [(*HALF, *reversed(HALF))] + [QUARTER, QUARTER[::-1]] * (sr < 96_000)
    between = [np.convolve(y.astype(np.float64), table) for table in tables]
    wanted = 20 * math.log10(np.abs(between).max(initial=float(np.abs(y).max())))
    assert measure(Audio(y=y, sr=sr)).true_peak_dbtp == pytest.approx(wanted, abs=0.0006)


def test_a_constant_has_no_loudness_but_that_of_its_start():
    meter = LoudnessMeter(SR, (1.0,))
    meter.feed(np.full(20 * SR, 0.5, np.float32))
    measured = meter.measure()
    assert measured.sample_peaks_dbfs == (-6.021,)
    # The high pass answers a step with (1 - wt) exp(-wt), whose square has the integral 1 / 4w.
    power = 0.5**2 / (4 * 2 * math.pi * 38.1) / 0.4
    wanted_lufs = 10 * math.log10(power) - 0.691
    assert measured.momentary_max_lufs == pytest.approx(wanted_lufs, abs=0.5)
    assert meter._energies[0][-1000:].max() < 1e-20


def test_what_was_loud_leaves_nothing_behind():
    y = np.concatenate([sound.noise(0, 5.0, sr=SR).y * np.float32(100.0), np.zeros(10 * SR)])
    quiet = sound.tone(1000.0, 5.0, sr=SR, peak_dbfs=-60.0).y
    meter = LoudnessMeter(SR, (1.0,))
    meter.feed(np.concatenate([y, quiet]).astype(np.float32))
    alone = LoudnessMeter(SR, (1.0,))
    alone.feed(quiet)
    meter.measure()
    alone.measure()
    assert meter._energies[0][-450:] == pytest.approx(alone._energies[0][-450:], rel=1e-6)
    assert not meter._energies[0][1200:1400].any()


def test_six_hours_need_little_memory():
    sr = 1000
    block = sound.noise(0, 60.0, sr=sr).y
    meter = LoudnessMeter(sr, (1.0,))
    meter.feed(block)  # compiles
    one_minute = meter.measure()
    tracemalloc.start()
    try:
        for _ in range(6 * 60 - 1):
            meter.feed(block)
        measured = meter.measure()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert measured.integrated_lufs == pytest.approx(one_minute.integrated_lufs, abs=0.01)
    assert peak_bytes < 128 * 2**20


def test_any_audio_is_measured_by_what_the_warm_up_has_compiled():
    from segue.features import loudness_kernel

    measure(sound.noise(0, 0.5, sr=96_000, channels=3))
    measure(Audio(y=np.array(sound.noise(0, 0.5, channels=2).y, order="F"), sr=8_000))
    measure(sound.tone(1000.0, 0.001))
    warm_up()
    for function in (loudness_kernel.add_energies, loudness_kernel.find_true_peak):
        assert len(function.signatures) == 1


def test_numba_is_not_imported_with_the_job():
    script = "import sys, segue.features.ebu_r128; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


SCRIPT = """
import hashlib, json
from segue.features.ebu_r128 import warm_up
from segue.features.loudness_meter import LoudnessMeter
from segue.testing import sound
for sr in (8_000, 44_100, 96_000):
    audio = sound.music(3, duration_s=5.0, sr=sr, channels=2)
    meter = LoudnessMeter(sr, (1.0, 1.41))
    meter.feed(audio.y)
    measured = meter.measure()
    energies = hashlib.sha256(meter._energies[0].tobytes()).hexdigest()
    print(hashlib.sha256(audio.y.tobytes()).hexdigest(), energies, meter._true_peak, measured)
"""


def test_the_processor_does_not_matter(tmp_path):
    from numpy._core import _multiarray_umath as numpy_features

    available = numpy_features.__cpu_features__
    masked = {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NPY_DISABLE_CPU_FEATURES": " ".join(
            feature for feature in numpy_features.__cpu_dispatch__ if available[feature]
        ),
        "OPENBLAS_CORETYPE": "Prescott",
    }
    here, there = (
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for variables in ({}, masked)
    )
    assert here == there
    assert here.count("Loudness(") == 3
