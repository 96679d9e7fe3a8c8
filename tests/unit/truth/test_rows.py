"""Functions are called in another Python, each question once."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import soundfile
from truth.caller import Caller, CallFailed, System
from truth.rows import Answers, name_question

LOUDNESS = System(
    name="Segue", python=sys.executable, call="segue.features.ebu_r128:loudness", media=True
)


@pytest.fixture
def sine(tmp_path):
    path = tmp_path / "sine.wav"
    t = np.arange(5 * 48000) / 48000
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 1000 * t), 48000, "FLOAT")
    return path


def test_a_job_is_called_with_its_media(sine):
    with Caller(LOUDNESS) as caller:
        value, cpu_s = caller.call(sine)
    assert value["sample_peak_dbfs"] == pytest.approx(-20, abs=0.01)
    assert cpu_s > 0


def test_a_function_may_take_the_path_alone(sine):
    with Caller(
        System(name="size", python=sys.executable, call="os.path:getsize", file=True)
    ) as caller:
        assert caller.call(sine)[0] == sine.stat().st_size


def test_an_error_of_a_function_is_told_and_ends_nothing(sine, tmp_path):
    with Caller(LOUDNESS) as caller:
        with pytest.raises(CallFailed, match=r"Segue: .*missing\.wav: "):
            caller.call(tmp_path / "missing.wav")
        assert caller.call(sine)[0]["integrated_lufs"] is not None


def test_what_is_prepared_is_not_timed(sine, tmp_path, monkeypatch):
    module = """
import time

class Slow:
    def setup(self): pass
    def prepare(self, y, sr):
        end = time.process_time() + 0.3
        while time.process_time() < end: pass
        return len(y), sr
    def __call__(self, samples, sr): return samples / sr
"""
    (tmp_path / "slow_module.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Caller(System(name="slow", python=sys.executable, call="slow_module:Slow")) as caller:
        value, cpu_s = caller.call(sine)
    assert value == 5.0
    assert cpu_s < 0.3


def test_a_python_that_lacks_a_function_is_named(sine):
    nowhere = System(name="other", python=sys.executable, call="no_such_module:function")
    with Caller(nowhere) as caller, pytest.raises(CallFailed, match=r"other: .*no_such_module"):
        caller.call(sine)


def test_answers_are_kept_for_the_same_sound_alone(sine, tmp_path):
    store = tmp_path / "cache" / "answers.json"
    answers = Answers()
    [answer] = answers.ask([LOUDNESS], [sine], "loudness")["Segue"]
    assert answer.error is None
    answers.write(store, ["Segue"])
    gone = System(name="Segue", python="/nowhere/python", call=LOUDNESS.call, media=True)
    assert Answers(store).ask([gone], [sine], "loudness")["Segue"] == [answer]
    soundfile.write(sine, np.zeros(48000), 48000, "FLOAT")
    with pytest.raises(FileNotFoundError, match="/nowhere/python"):
        Answers(store).ask([gone], [sine], "loudness")


def test_the_same_call_with_other_parameters_is_another_question(sine):
    first, second = (
        System(name="one", python=sys.executable, call="json:dumps", parameters={"indent": indent})
        for indent in (1, 2)
    )
    assert name_question(first, sine) != name_question(second, sine)
