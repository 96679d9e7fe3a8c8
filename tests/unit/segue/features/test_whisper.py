"""Whisper listens to log mel power, and its tokens become text."""

from __future__ import annotations

import numpy as np
import pytest

from segue.errors import ConfigurationError
from segue.features.whisper import Whisper, compute_features, decode_tokens
from segue.testing.sound import tone
from segue_support.tiny_whisper import WRITTEN, write_tiny_whisper

SR = 16_000
FRAMES_PER_S = 100


def test_features_span_two_units_and_silence_follows_what_is_short():
    found = compute_features(tone(1000.0, 2.0, sr=SR).y, 80)
    assert (found.shape, found.dtype) == ((80, 3000), np.float32)
    assert found.max() - found.min() == pytest.approx(2.0)
    assert np.all(found[:, 2 * FRAMES_PER_S + 2 :] == found.min())
    assert compute_features(tone(1000.0, 2.0, sr=SR).y, 128).shape == (128, 3000)


def test_ten_times_the_level_is_half_a_unit_more():
    y = tone(1000.0, 31.0, sr=SR).y
    np.testing.assert_allclose(
        compute_features(10 * y, 80) - compute_features(y, 80), 0.5, atol=1e-4
    )


def test_what_is_beyond_the_window_does_not_count_and_channels_are_averaged():
    y = tone(1000.0, 40.0, sr=SR).y
    np.testing.assert_array_equal(compute_features(y, 80), compute_features(y[: 30 * SR], 80))
    np.testing.assert_array_equal(compute_features(np.stack([y, y]), 80), compute_features(y, 80))


@pytest.mark.parametrize("y", [np.zeros(1), np.zeros(30 * SR), np.full(SR, 1e6)])
def test_any_level_has_finite_features(y):
    assert np.isfinite(compute_features(y.astype(np.float32), 80)).all()


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["Ġh", "i"], " hi"),
        (["Ãł", "Ġtoi"], "à toi"),
        (["Ð", "Ł", "ÑĢ"], "Пр"),
        (["ä½", "ł", "å¥½"], "你好"),
        (["Ċ"], "\n"),
        (["Ã"], "\N{REPLACEMENT CHARACTER}"),
        ([], ""),
    ],
)
def test_tokens_stand_for_bytes(tokens, text):
    assert decode_tokens(tokens) == text


def test_a_language_is_heard_and_a_text_is_written(whisper_files):
    whisper = Whisper(**whisper_files)
    found = whisper.detect_language(tone(500.0, 30.0, sr=SR).y)
    assert max(found, key=lambda code: found[code]) == "fr"
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-3)
    assert set(found) == {"fr", "de", "jv"}
    written = whisper.transcribe(tone(500.0, 30.0, sr=SR).y, "jv")
    assert written.tokens == list(WRITTEN[:-1])
    assert -0.1 < written.mean_log_probability < 0
    assert 0 <= written.no_speech_probability < 0.1


def test_files_of_something_else_are_refused(whisper_files, tmp_path):
    wrong = tmp_path / "model.bin"
    wrong.write_bytes(b"no model" * 100)
    with pytest.raises(ConfigurationError, match="are no Whisper in CTranslate2's format"):
        Whisper(**{**whisper_files, "model": wrong})


def test_a_model_for_one_language_is_refused(tmp_path):
    write_tiny_whisper(tmp_path, multilingual=False)
    with pytest.raises(ConfigurationError, match="for one language"):
        Whisper(
            model=tmp_path / "model.bin",
            config=tmp_path / "config.json",
            vocabulary=tmp_path / "vocabulary.json",
        )
