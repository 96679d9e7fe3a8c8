"""Scores of pitches and notes whose errors are known."""

from __future__ import annotations

import io

import mido
import numpy as np
import pytest
from truth.melody import list_true_notes, score_notes, score_pitch, to_hz
from truth.tunes import SAMPLE_RATE_HZ, add_formants, describe, sing, write_scale

TRUTH = [440.0] * 50 + [0.0] * 50 + [None] * 50


def found(*parts, hop_s=0.01):
    return {"hop_s": hop_s, "f0_hz": [hz for hz, count in parts for _ in range(count)]}


def test_the_true_pitch_has_full_marks_whatever_follows_where_it_is_unknown():
    marks = {"found": 1.0, "right": 1.0, "false": 0.0, "error_cents": 0.0}
    assert score_pitch(TRUTH, found((440.0, 50), (None, 50), (99.0, 50))) == marks


def test_an_octave_is_wrong_and_a_pitch_in_a_pause_is_false():
    marks = score_pitch(TRUTH, found((440.0, 20), (880.0, 10), (None, 20), (440.0, 10), (None, 90)))
    assert marks["found"] == pytest.approx(0.6)
    assert marks["right"] == pytest.approx(2 / 3)
    assert marks["false"] == pytest.approx(0.2)


def test_frames_of_another_rate_are_compared_by_time():
    sharp = 440 * 2 ** (30 / 1200)
    marks = score_pitch(TRUTH, found((sharp, 25), (None, 50), hop_s=0.02))
    assert marks["error_cents"] == pytest.approx(30)
    assert marks["right"] == 1.0


def test_no_pitch_has_no_error():
    marks = score_pitch(TRUTH, found((None, 150)))
    assert marks == {"found": 0.0, "right": None, "false": 0.0, "error_cents": None}


def test_a_note_with_vibrato_has_the_pitch_that_the_tune_says():
    f0_hz = sing(69)
    tune = describe("voices", "a", f0_hz)
    sung = [hz for hz in tune.f0_hz if hz]
    assert len(tune.f0_hz) == 80
    assert len(sung) == 50
    assert max(sung) == pytest.approx(440 * 2 ** (0.4 / 12), rel=1e-3)
    power = np.abs(np.fft.rfft(add_formants(np.full(SAMPLE_RATE_HZ, 200.0)))) ** 2
    harmonics = power[::200]  # bins of 1 Hz
    assert harmonics.sum() > 0.99 * power.sum()


def test_the_notes_of_a_piece_are_those_that_it_plays():
    file = io.BytesIO()
    write_scale(0, [60, 72]).save(file=file)
    intervals, hz = list_true_notes(file.getvalue(), 30.0)
    assert intervals.tolist() == [[0.0, 0.5], [0.8, 1.3]]
    assert hz.tolist() == pytest.approx([261.626, 523.251], abs=0.01)


def test_drums_are_no_notes_and_unison_is_one():
    piece = mido.MidiFile(ticks_per_beat=1000)
    for channel, key in ((9, 40), (0, 60), (1, 60)):
        on = mido.Message("note_on", channel=channel, note=key, velocity=90)
        off = mido.Message("note_off", channel=channel, note=key, time=1000)
        piece.tracks.append(mido.MidiTrack([on, off]))
    file = io.BytesIO()
    piece.save(file=file)
    intervals, hz = list_true_notes(file.getvalue(), 30.0)
    assert intervals.tolist() == [[0.0, 0.5]]
    assert hz.tolist() == pytest.approx([261.626], abs=0.01)


NOTES = (np.array([[0.0, 0.5], [0.8, 1.3]]), to_hz([60, 72]))


def note(start_s, end_s, midi):
    return {"start_s": start_s, "end_s": end_s, "midi": midi}


def test_notes_are_right_by_key_and_onset_and_with_ends_by_these():
    marks = score_notes(NOTES, [note(0.03, 0.5, 60), note(0.8, 1.0, 72), note(0.8, 1.3, 73)])
    assert marks["precision"] == pytest.approx(2 / 3)
    assert marks["recall"] == 1.0
    assert marks["f"] == pytest.approx(0.8)
    assert marks["f_with_ends"] == pytest.approx(0.4)


def test_no_notes_have_no_marks():
    assert set(score_notes(NOTES, []).values()) == {0.0}
