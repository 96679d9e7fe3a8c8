"""RMS energy, by formula."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import ConfigurationError
from segue.features.dynamics import energy
from segue.media.audio import Audio, iterate_blocks
from segue.testing import sound

SR = 1000
ROUNDING_DB = 0.0005  # levels are given to a thousandth


def beats(*times_s: float) -> dict[str, object]:
    return {"tempo_bpm": 120.0, "beat_times_s": list(times_s)}


def steps(*levels: float) -> Audio:
    """One second at each level."""
    return Audio(y=np.repeat(np.array(levels, np.float32), SR), sr=SR)


def test_a_sine_reads_three_db_below_its_peak_and_a_square_its_peak():
    sine = sound.tone(440.0, 1.0, peak_dbfs=-6.0)
    square = Audio(y=np.sign(sine.y) * np.float32(0.5), sr=sine.sr)
    assert energy(sine, beats())["rms_dbfs"] == pytest.approx(-9.01, abs=0.01)
    assert energy(square, beats())["rms_dbfs"] == pytest.approx(-6.021, abs=0.01)


def test_each_beat_lasts_to_the_next_and_the_last_to_the_end():
    result = energy(steps(0.5, 0.1, 1.0, 0.1), beats(1.0, 2.0))
    assert result["lead_in_rms_dbfs"] == pytest.approx(20 * math.log10(0.5), abs=ROUNDING_DB)
    last = 10 * math.log10((1.0 + 0.01) / 2)
    assert result["beat_rms_dbfs"] == pytest.approx([-20.0, last], abs=ROUNDING_DB)
    overall = 10 * math.log10((0.25 + 0.01 + 1.0 + 0.01) / 4)
    assert result["rms_dbfs"] == pytest.approx(overall, abs=ROUNDING_DB)


def test_a_beat_at_the_start_has_no_lead_in():
    result = energy(steps(0.5, 0.1), beats(0.0, 1.0))
    assert result["lead_in_rms_dbfs"] is None
    assert result["beat_rms_dbfs"] == pytest.approx([-6.021, -20.0], abs=ROUNDING_DB)


def test_without_beats_there_is_only_the_whole():
    result = energy(steps(0.1), beats())
    assert result == {
        "rms_dbfs": -20.0, "lead_in_rms_dbfs": None, "beat_rms_dbfs": [], "floor_dbfs": -120.0,
    }  # fmt: skip


def test_silence_reads_the_floor():
    result = energy(steps(0.0, 0.1), beats(0.5, 1.0))
    assert (result["lead_in_rms_dbfs"], result["beat_rms_dbfs"]) == (-120.0, [-120.0, -20.0])
    low = energy(steps(0.0, 0.1), beats(1.0), floor_dbfs=-15.0)
    assert (low["lead_in_rms_dbfs"], low["beat_rms_dbfs"], low["floor_dbfs"]) == (-15, [-15], -15)


def test_the_power_of_channels_is_averaged():
    one = steps(0.1).y
    for rows in ([one, 0 * one], [one, 0 * one, 0 * one, 0 * one]):
        result = energy(Audio(y=np.stack(rows), sr=SR), beats(0.5))
        expected = -20.0 - 10 * math.log10(len(rows))
        assert result["rms_dbfs"] == pytest.approx(expected, abs=ROUNDING_DB)
        assert result["beat_rms_dbfs"] == pytest.approx([expected], abs=ROUNDING_DB)


@given(st.lists(st.integers(0, 1999), unique=True, max_size=20), st.integers(1, 2000))
@settings(deadline=None, max_examples=80)
def test_it_is_the_mean_square_of_each_interval_however_it_is_cut_into_blocks(edges, block_frames):
    y = sound.noise(3, 2.0, sr=SR).y
    edges.sort()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(iterate_blocks, "__defaults__", (block_frames,))
        result = energy(Audio(y=y, sr=SR), beats(*(edge / SR for edge in edges)))
    squares = y.astype(np.float64) ** 2
    expected = [
        10 * math.log10(max(1e-12, squares[a:b].mean())) for a, b in pairwise([*edges, len(y)])
    ]
    assert result["beat_rms_dbfs"] == pytest.approx(expected, abs=ROUNDING_DB + 1e-9)


@pytest.mark.parametrize("times_s", [(500.0, 1000.0), (1.0, 0.5), (-0.5,), (2.0,), (0.5, 0.5)])
def test_beats_of_another_file_are_a_mistake(times_s):
    with pytest.raises(ConfigurationError, match=r"in a file of 2\.000 s.*milliseconds"):
        energy(steps(0.1, 0.1), beats(*times_s))
