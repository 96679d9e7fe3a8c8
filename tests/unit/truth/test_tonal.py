"""Scores of keys, a plain computation of danceability, and fingerprints that are equal."""

from __future__ import annotations

import numpy as np
import pytest
from truth.keys import KeyedPiece, name_chord
from truth.rows import Answer
from truth.tonal import count_equal, find_largest, score_key, summarize_keys
from truth.tonal_references import plain_danceability

from segue.features.fluctuation import danceability
from segue.testing import sound

PIECE = KeyedPiece(
    name="a", set="accompaniments", duration=45.0, tonic="A", mode="minor", tuning_cents=48.0
)


def answer(key, mode, confidence=0.5, tuning_cents=48.0):
    return {"key": key, "mode": mode, "confidence": confidence, "tuning_cents": tuning_cents}


@pytest.mark.parametrize(
    ("key", "mode", "score"),
    [
        *(("A", "minor", 1.0), ("E", "minor", 0.5), ("C", "major", 0.3)),
        *(("A", "major", 0.2), ("F#", "major", 0.0)),
    ],
)
def test_related_keys_are_half_right(key, mode, score):
    assert score_key(PIECE, answer(key, mode))["score"] == score


def test_the_tuning_is_on_a_circle():
    score = score_key(PIECE, answer("A", "minor", tuning_cents=-49.0))
    assert score["tuning_error"] == pytest.approx(3.0)


def test_a_set_is_summarized():
    nothing = {"key": None, "mode": None, "confidence": None, "tuning_cents": None}
    answers = [
        answer("A", "minor"),
        answer("A", "minor", confidence=0.1),
        answer("C", "major"),
        answer("E", "minor", confidence=None, tuning_cents=38.0),
        nothing,
    ]
    row = summarize_keys([score_key(PIECE, one) for one in answers])
    assert (row["right"], row["related"], row["none"]) == (2.0, 2.0, 1.0)
    assert row["score"] == pytest.approx((1 + 1 + 0.3 + 0.5) / 5)
    assert row["right_if_sure"] == "1 of 2"
    assert row["tuning_median"] == 0.0


def test_chords_are_transposed():
    assert [name_chord(one, 2) for one in ("0", "7:7", "2m7b5", "10", "0M7")] == [
        *("D", "A7", "Em7b5", "C", "DM7")
    ]


def test_the_plain_computation_is_that_of_the_job():
    audio = sound.click_track(120, 20)
    plain = plain_danceability(audio.y, audio.sr)["danceability"]
    assert danceability(audio)["danceability"] == pytest.approx(plain, abs=1e-3)
    noise = np.random.default_rng(1).normal(size=audio.sr * 20).astype(np.float32)
    assert plain_danceability(noise, audio.sr)["danceability"] < plain


def say(**value):
    return Answer(value=value, cpu_s=0.0)


def test_the_largest_difference_is_that_of_answers_to_the_same():
    ours = [say(danceability=1.0), say(danceability=None), say(danceability=2.0)]
    plain = [say(danceability=1.5), say(danceability=9.0), say(danceability=2.25)]
    assert find_largest(ours, plain) == 0.5
    assert find_largest(ours, []) is None


def test_fingerprints_are_compared_with_those_of_the_same_files():
    theirs = [say(fingerprint=text) for text in "abcd"]
    found = {"fpcalc": theirs}
    places = [False, True, True, False]
    assert count_equal([say(fingerprint="b"), say(fingerprint="x")], found, places) == 1.0
    assert count_equal([say(fingerprint="b")], {}, places) is None
