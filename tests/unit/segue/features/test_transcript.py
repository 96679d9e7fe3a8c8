"""What Whisper writes for windows with a voice becomes text with times in the file."""

from __future__ import annotations

import numpy as np
import pytest

from segue.errors import ConfigurationError
from segue.features import transcript as module
from segue.features.transcript import Transcript
from segue.features.whisper import Hypothesis
from segue.media.audio import Audio

SR = 16_000
FRENCH = {"language": "fr", "reason": None}
# What the tiny Whisper writes for each window.
SAID = [(0.0, 1.5, "hi"), (2.0, 4.0, "à toi!")]


@pytest.fixture(scope="module")
def job(whisper_files) -> Transcript:
    made = Transcript(**whisper_files)
    made.setup()
    return made


def make_speech(*stretches: tuple[float, float]) -> dict:
    return {"segments": [{"start_s": a, "end_s": b, "kind": "speech"} for a, b in stretches]}


def make_audio(duration_s: float) -> Audio:
    times = np.arange(round(duration_s * SR)) / SR
    return Audio(y=(0.1 * np.sin(2 * np.pi * 500 * times)).astype(np.float32), sr=SR)


def list_windows(job: Transcript, monkeypatch, audio: Audio, speech: dict) -> list[float]:
    """Return the durations of the windows that Whisper gets."""
    found = []
    transcribe = job.whisper.transcribe

    def record(y: np.ndarray, language: str) -> Hypothesis:
        found.append(y.shape[-1] / SR)
        return transcribe(y, language)

    monkeypatch.setattr(job.whisper, "transcribe", record)
    job(audio, speech, FRENCH)
    return found


def test_the_times_are_those_in_the_file(job):
    found = job(make_audio(100), make_speech((10.1, 20.0), (80.1, 82.0)), FRENCH)
    assert (found["language"], found["reason"]) == ("fr", None)
    expected = [(10.0 + start, 10.0 + end, text) for start, end, text in SAID]
    # The second window ends before the second sentence does.
    expected += [(80.0, 81.5, "hi"), (82.0, 82.1, "à toi!")]
    assert [(s["start_s"], s["end_s"], s["text"]) for s in found["segments"]] == expected


def test_windows_have_as_many_stretches_as_fit(job, monkeypatch):
    speech = make_speech((1.0, 10.0), (12.0, 29.0), (30.0, 40.0), (131.0, 139.0))
    found = list_windows(job, monkeypatch, make_audio(139), speech)
    # 0.9-29.1, 29.9-40.1, 130.9-139
    assert found == pytest.approx([28.2, 10.2, 8.1])


def test_a_longer_stretch_is_parted_equally(job, monkeypatch):
    """No window has a rest that is too short to be understood."""
    speech = make_speech((0.1, 30.15), (50.0, 130.0), (130.5, 132.0))
    found = list_windows(job, monkeypatch, make_audio(140), speech)
    # 0-15.125-30.25, 49.9-130.1 in three, the last of which goes on to 132.1
    assert found == pytest.approx([15.125, 15.125, 80.2 / 3, 80.2 / 3, 80.2 / 3 + 2.0], abs=1e-3)


def test_nothing_is_heard_twice(job, monkeypatch):
    found = list_windows(job, monkeypatch, make_audio(60), make_speech((0.0, 29.95), (30.0, 60.0)))
    assert sum(found) == pytest.approx(60.0, abs=0.01)


def test_without_a_voice_or_a_language_there_is_no_text(job):
    assert job(make_audio(5), make_speech(), FRENCH)["segments"] == []
    unknown = {"language": None, "reason": "there are 0.0 s with a voice, and 3.0 are needed"}
    assert job(make_audio(5), make_speech((0.0, 5.0)), unknown) == {
        "language": None,
        "segments": [],
        "reason": "there are 0.0 s with a voice, and 3.0 are needed",
    }


@pytest.mark.parametrize(
    ("tokens", "log_probability", "no_speech", "texts"),
    [
        (["<|0.00|>", "Ġa", "<|1.00|>"], -0.5, 0.9, ["a"]),
        (["<|0.00|>", "Ġa", "<|1.00|>"], -1.5, 0.5, ["a"]),
        (["<|0.00|>", "Ġa", "<|1.00|>"], -1.5, 0.9, []),
        (["<|0.00|>", *["Ġthank", "Ġyou."] * 40, "<|9.00|>"], -0.1, 0.0, []),
        (["<|0.00|>", "Ġa", "<|1.00|>", "<|1.00|>", "Ġb"], -0.1, 0.0, ["a", "b"]),
        (["<|0.00|>", "Ġa", "<|11.00|>", "<|11.00|>", "Ġb", "<|12.00|>"], -0.1, 0.0, ["a"]),
        (["<|10.00|>", "Ġa"], -0.1, 0.0, []),
        (["Ġa"], -0.1, 0.0, ["a"]),
        (["<|0.00|>", "Ġ", "<|1.00|>"], -0.1, 0.0, []),
        ([], -0.1, 0.0, []),
    ],
)
def test_what_is_not_credible_or_beyond_the_window_is_left_out(
    tokens, log_probability, no_speech, texts
):
    written = Hypothesis(
        tokens=tokens, mean_log_probability=log_probability, no_speech_probability=no_speech
    )
    found = list(module._list_segments(written, 5.0, 15.0))
    assert [segment["text"] for segment in found] == texts
    assert all(5.0 <= s["start_s"] <= s["end_s"] <= 15.0 for s in found)


def test_audio_at_another_rate_is_refused(job):
    with pytest.raises(ConfigurationError, match="8000 Hz: it must be at 16000"):
        job(Audio(y=np.zeros(8000, np.float32), sr=8000), make_speech(), FRENCH)


def test_it_says_how_far_it_has_come(job, page):
    job(make_audio(10), make_speech((1.0, 8.0)), FRENCH)
    fraction, text = page.read_report()
    assert fraction == pytest.approx(0.8, abs=0.02)
    assert text == "transcribing"
