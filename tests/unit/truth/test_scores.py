"""Scores of beats, tempi and bars whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest
from truth.corpus import Item
from truth.scores import score_beats, score_downbeats, score_tempo

BEATS = np.arange(0.25, 60, 0.5)


def item(beats=BEATS, bpm=120.0):
    times = list(map(float, beats))
    return Item(
        name="a",
        set="songs",
        split="development",
        bpm=bpm,
        beats=times,
        downbeats=times[::4],
        beats_per_bar=4,
        duration=60.0,
    )


def found(beats, bpm=120.0):
    return {"beat_times_s": list(map(float, beats)), "tempo_bpm": bpm}


def test_the_truth_itself_has_full_marks():
    assert score_beats(item(), found(BEATS)) == {
        "f": 1.0,
        "cmlt": 1.0,
        "amlt": 1.0,
        "offset_ms": 0.0,
        "tempo_right": 1.0,
        "tempo_error": 0.0,
        "tempo_error_at_level": 0.0,
    }


@pytest.mark.parametrize("late_s", [0.02, -0.03])
def test_an_offset_is_measured_with_its_sign(late_s):
    score = score_beats(item(), found(BEATS + late_s))
    assert score["offset_ms"] == pytest.approx(1000 * late_s)
    assert score["f"] == 1.0


def test_beats_later_than_70_ms_are_wrong():
    assert score_beats(item(), found(BEATS + 0.08))["f"] == 0.0


def test_half_the_tempo_is_right_at_another_level_only():
    score = score_beats(item(), found(BEATS[::2], bpm=60.06))
    assert score["amlt"] == 1.0
    assert score["cmlt"] == 0.0
    assert score["f"] == pytest.approx(2 / 3, abs=0.01)
    assert score["tempo_right"] == 0.0
    assert score["tempo_error"] == pytest.approx(0.001)
    assert score["tempo_error_at_level"] == pytest.approx(0.4995)


def test_nothing_found_has_no_marks_and_no_offset():
    assert score_beats(item(), found([], bpm=None)) == {
        "f": 0.0,
        "cmlt": 0.0,
        "amlt": 0.0,
        "offset_ms": None,
        "tempo_right": 0.0,
        "tempo_error": None,
        "tempo_error_at_level": None,
    }


def test_the_first_five_seconds_do_not_count():
    assert score_beats(item(), found(BEATS[BEATS >= 5]))["f"] == 1.0


@pytest.mark.parametrize(("bpm", "right"), [(124.7, 1.0), (125.0, 0.0), (115.3, 1.0), (60.0, 0.0)])
def test_a_tempo_is_right_within_4_percent(bpm, right):
    assert score_tempo(120.0, bpm)["tempo_right"] == right


def test_first_beats_and_metre_are_scored_apart():
    answer = {"downbeat_times_s": list(BEATS[::4]), "beats_per_bar": 3}
    assert score_downbeats(item(), answer) == {"f": 1.0, "metre_right": 0.0}
    answer = {"downbeat_times_s": list(BEATS[1::4]), "beats_per_bar": 4}
    assert score_downbeats(item(), answer) == {"f": 0.0, "metre_right": 1.0}
