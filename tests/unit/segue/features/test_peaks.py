"""The waveform of a file, and its loudness over time."""

from __future__ import annotations

import numpy as np
import pytest

from segue import codec
from segue.features.ebu_r128 import loudness
from segue.features.peaks import SPANS, WINDOWS, peaks
from segue.media.audio import Audio
from segue.testing import sound

pytestmark = pytest.mark.slow

TOLERANCE_LU = 0.1  # of EBU Tech 3341


@pytest.fixture
def find(open_media, tmp_path):
    """Write sound as floats, and find the peaks of the file."""

    def found(y: np.ndarray, sr: int = 8000) -> dict:
        path = tmp_path / "a.wav"
        path.write_bytes(codec.encode("audio/wav", Audio(y=y.astype(np.float32), sr=sr)).data)
        return peaks(open_media(path))

    return found


def test_each_span_has_its_lowest_and_highest_sample(find):
    y = np.zeros(800)
    y[5], y[85], y[799] = 0.5, -1.0, 0.25
    waveform = find(y)
    assert waveform["span_s"] == 0.01
    assert waveform["duration_s"] == 0.1
    assert waveform["maxima"] == [64, *[0] * 8, 32]
    assert waveform["minima"] == [0, -127, *[0] * 8]


def test_spans_do_not_depend_on_how_a_file_is_read(find, monkeypatch):
    from segue.features import peaks as module
    from segue.media.audio import iterate_blocks

    y = np.random.default_rng(3).uniform(-1, 1, 8123)
    whole = find(y)
    monkeypatch.setattr(module, "iterate_blocks", lambda y: iterate_blocks(y, 97))
    assert find(y) == whole
    spans = [y[at : at + 80] for at in range(0, len(y), 80)]
    assert whole["maxima"] == [round(127 * float(np.float32(span.max()))) for span in spans]


def test_the_extremes_are_those_of_any_channel(find):
    y = np.zeros((2, 80))
    y[0, 3], y[1, 4] = 0.5, -0.5
    waveform = find(y)
    assert (waveform["minima"], waveform["maxima"]) == ([-64], [64])


def test_samples_beyond_full_scale_are_at_full_scale(find):
    waveform = find(np.array([3.0, -3.0] * 40))
    assert (waveform["minima"], waveform["maxima"]) == ([-127], [127])


@pytest.mark.parametrize("frames", [1, 7, 79, 80, 81])
def test_the_last_span_may_be_short(find, frames):
    waveform = find(np.full(frames, 0.5))
    assert len(waveform["maxima"]) == len(waveform["minima"]) == (frames + 79) // 80
    assert set(waveform["maxima"]) == {64}
    assert waveform["momentary_lufs"] == []


def test_a_sine_of_a_known_loudness_has_it_all_along(find):
    audio = sound.sine_at_lufs(-23.0, duration_s=3.0, sr=48000, channels=2)
    waveform = find(audio.y, audio.sr)
    assert waveform["hop_s"] == 0.1
    assert len(waveform["momentary_lufs"]) == 27
    assert waveform["momentary_lufs"] == pytest.approx([-23.0] * 27, abs=TOLERANCE_LU)


def test_the_loudest_moment_is_that_of_the_meter(open_media, tmp_path):
    path = sound.write(sound.click_track(120.0, 5.0), str(tmp_path / "a.wav"))
    waveform, measured = peaks(open_media(path)), loudness(open_media(path))
    loudest = max(x for x in waveform["momentary_lufs"] if x is not None)
    assert loudest <= measured["momentary_max_lufs"]
    assert loudest == pytest.approx(measured["momentary_max_lufs"], abs=1.0)


def test_silence_has_no_loudness(find):
    waveform = find(np.zeros(8000))
    assert set(waveform["maxima"]) == {0}
    assert set(waveform["momentary_lufs"]) == {None}


def test_a_long_file_has_no_more_spans_than_a_screen_needs(find):
    waveform = find(np.tile([0.5, -0.5], 500_000), sr=1000)
    assert len(waveform["maxima"]) <= SPANS
    assert len(waveform["momentary_lufs"]) <= WINDOWS
    assert set(waveform["maxima"]) == {64}
    assert len(waveform["maxima"]) * waveform["span_s"] == pytest.approx(1000.0, rel=0.01)
    assert len(waveform["momentary_lufs"]) * waveform["hop_s"] == pytest.approx(1000.0, rel=0.01)
