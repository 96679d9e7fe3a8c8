"""Scores of stretches of speech, and the rules of silero-vad."""

from __future__ import annotations

import pytest
from truth.speech import count_frames, list_speech, score_speech
from truth.voice_references import list_stretches

TRUTH = [(1.0, 2.0), (3.0, 4.0)]


def score(found):
    return score_speech([count_frames(5.0, TRUTH, found)])


def test_the_truth_itself_has_full_marks_and_so_has_what_is_within_100_ms():
    full = {"recall": 1.0, "false_alarms": 0.0, "f": 1.0}
    assert score(TRUTH) == full
    assert score([(0.91, 2.09), (3.09, 3.91)]) == full


def test_what_is_missed_and_what_is_invented_is_counted_by_time():
    # Of each second of speech 0.8 s count, and of the pauses 0.9, 0.8 and 0.9 s.
    found = score([(1.0, 2.0), (2.1, 2.5)])
    assert found["recall"] == pytest.approx(0.5)
    assert found["false_alarms"] == pytest.approx(0.4 / 2.6)
    assert found["f"] == pytest.approx(2 * 0.8 / (1.6 + 0.8 + 0.4))


def test_music_has_false_alarms_alone():
    found = score_speech([count_frames(5.0, [], [(1.0, 2.0)])])
    assert found == {"recall": None, "false_alarms": pytest.approx(0.2), "f": None}


def test_the_segments_of_the_job_are_those_of_speech():
    segment = {"start_s": 1.0, "end_s": 2.0}
    segments = [{**segment, "kind": "speech"}, {**segment, "kind": "music"}]
    assert list_speech({"segments": segments}) == [(1.0, 2.0)]
    assert list_speech({"speech": [[1.0, 2.0]]}) == [(1.0, 2.0)]


def test_speech_ends_below_the_lower_threshold_and_short_speech_is_dropped():
    long = [0.6] * 10 + [0.4] * 5 + [0.1] * 10
    short = [0.9] * 2 + [0.0] * 10
    stretches = list_stretches([0.0] * 5 + long + short, 0.032, 2.0)
    assert stretches == [(pytest.approx(5 * 0.032 - 0.03), pytest.approx(20 * 0.032 + 0.03))]


def test_speech_may_last_to_the_end():
    assert list_stretches([0.9] * 20, 0.05, 1.0) == [(0.0, 1.0)]
