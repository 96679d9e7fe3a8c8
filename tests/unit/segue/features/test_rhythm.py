"""Tempo and beats, on sound whose beats are known."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from segue.errors import ConfigurationError, TooLarge
from segue.features import onsets, tempo
from segue.features.rhythm import beats
from segue.media.audio import Audio
from segue.testing import sound

pytestmark = pytest.mark.slow

SR = 22050
TEMPI_BPM = (60.0, 72.0, 80.0, 90.0, 100.0, 111.0, 120.0, 133.0, 140.0, 152.0, 160.0, 174.0, 180.0)
# MIREX: an estimated beat is right within 70 ms.
WINDOW_S = 0.07
# Beats are dated to the rise of the sound; the ear tells 10 ms at best.
DATING_TOLERANCE_S = 0.005
STEADY_TOLERANCE = 0.001
EMPTY = {
    "tempo_bpm": None,
    "confidence": 0.0,
    "beat_times_s": [],
    "beat_confidences": [],
    "reason": "no tempo is heard",
}
# In eighths: the bar's kicks and snares. The hi-hat is on all of them, if there is one.
PATTERNS = {
    "kick and snare": ((0, 4), (2, 6), False),
    "eighths": ((0, 4), (2, 6), True),
    "four on the floor": ((0, 2, 4, 6), (2, 6), True),
    "rock": ((0, 4, 5), (2, 6), True),
}


def match(estimated: list[float], reference: list[float]) -> list[float]:
    """The errors of those estimated beats that match a beat of the reference, one to one."""
    free, errors = list(estimated), []
    for time_s in reference:
        near = [e for e in free if abs(e - time_s) <= WINDOW_S]
        if near:
            best = min(near, key=lambda e: abs(e - time_s))
            free.remove(best)
            errors.append(best - time_s)
    return errors


def f_measure(estimated: list[float], reference: list[float]) -> float:
    """As mir_eval.beat.f_measure counts it."""
    return 2 * len(match(estimated, reference)) / (len(estimated) + len(reference))


def play_drums(times_s: np.ndarray, pattern: str = "eighths", duration_s: float = 30.0) -> Audio:
    """A kick on 1 and 3, a snare on 2 and 4, and a hi-hat; by default on all eighths."""
    rng = np.random.default_rng(0)
    t = np.arange(int(0.2 * SR)) / SR
    kick = np.sin(2 * np.pi * (50 * t + 1.5 * (1 - np.exp(-40 * t)))) * np.exp(-14 * t)
    snare = 0.5 * rng.standard_normal(len(t)) * np.exp(-22 * t)
    hat = 0.25 * np.diff(rng.standard_normal(len(t) + 1)) * np.exp(-90 * t)
    y = rng.normal(0, 0.002, round(duration_s * SR) + len(t))
    kicks, snares, with_hats = PATTERNS[pattern]
    for beat, (start_s, end_s) in enumerate(itertools.pairwise(times_s)):
        for half in (0, 1):
            eighth = (2 * beat + half) % 8
            at = round((start_s + half * (end_s - start_s) / 2) * SR)
            if at + len(t) > len(y):
                continue
            y[at : at + len(t)] += kick * (eighth in kicks) + snare * (eighth in snares)
            y[at : at + len(t)] += hat * with_hats
    return Audio(y=(0.5 * y[: round(duration_s * SR)]).astype(np.float32), sr=SR)


def count(bpm: float, first_s: float = 0.5, last_s: float = 29.5) -> np.ndarray:
    return np.arange(first_s, last_s, 60 / bpm)


def assert_steady(found: dict, bpm: float, truth: np.ndarray | list[float]) -> None:
    assert found["tempo_bpm"] == pytest.approx(bpm, rel=STEADY_TOLERANCE)
    assert f_measure(found["beat_times_s"], list(truth)) > 0.97
    errors = match(found["beat_times_s"], list(truth))
    assert abs(float(np.median(errors))) < DATING_TOLERANCE_S


@pytest.mark.parametrize("bpm", TEMPI_BPM)
def test_a_metronome_is_followed(bpm):
    found = beats(sound.click_track(bpm, 30.0, first_beat_s=0.25))
    assert_steady(found, bpm, sound.beat_times(bpm, 30.0, first_beat_s=0.25))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("bpm", TEMPI_BPM)
def test_drums_are_followed_at_the_level_of_their_beats(bpm, pattern):
    truth = count(bpm)
    assert_steady(beats(play_drums(truth, pattern)), bpm, truth[:-1])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("bpm", [75.0, 90.0, 105.0, 128.0, 150.0, 170.0])
def test_a_band_is_followed(bpm, seed):
    found = beats(sound.music(seed, bpm=bpm, duration_s=20.0, sr=SR, channels=1))
    assert_steady(found, bpm, sound.beat_times(bpm, 20.0))


def test_a_missing_beat_does_not_change_the_tempo():
    audio = sound.click_track(120.0, 20.0)
    y = audio.y.copy()
    y[int(7.9 * SR) : int(9.9 * SR)] = 0.0
    found = beats(Audio(y=y, sr=SR))
    assert found["tempo_bpm"] == pytest.approx(120.0, rel=STEADY_TOLERANCE)
    assert f_measure(found["beat_times_s"], sound.beat_times(120.0, 20.0)) > 0.97


def test_a_passage_that_stresses_the_off_beat_does_not_turn_the_beats_over():
    truth = count(110.0, last_s=59.5)
    y = play_drums(truth, "kick and snare", 60.0).y
    hats = play_drums(truth + 30 / 110, "kick and snare", 60.0).y
    y[15 * SR : 25 * SR] = hats[15 * SR : 25 * SR]
    assert_steady(beats(Audio(y=y, sr=SR)), 110.0, truth[:-1])


def move(bpm_at, last_s: float = 58.0) -> np.ndarray:
    times_s = [0.5]
    while times_s[-1] < last_s:
        times_s.append(times_s[-1] + 60 / bpm_at(times_s[-1]))
    return np.array(times_s)


MOVING = {
    "faster": lambda t: 110 + t / 4,
    "much slower": lambda t: 140 - t * 2 / 3,
    "to and fro": lambda t: 120 * (1 + 0.04 * np.sin(t / 5)),
    "a jump": lambda t: 120 if t < 30 else 128,
}


@pytest.mark.parametrize("bpm_at", MOVING.values(), ids=MOVING)
def test_a_tempo_that_moves_is_followed(bpm_at):
    truth = move(bpm_at)
    found = beats(play_drums(truth, duration_s=60.0))
    assert f_measure(found["beat_times_s"], truth[:-1].tolist()) > 0.95
    slope_bpm = 60 * (len(truth) - 1) / (truth[-1] - truth[0])
    assert found["tempo_bpm"] == pytest.approx(slope_bpm, rel=0.02)


def test_a_drummer_who_is_up_to_20_ms_off_is_followed():
    truth = count(120.0, last_s=59.0)
    played = truth + np.random.default_rng(3).normal(0, 0.01, len(truth)).clip(-0.02, 0.02)
    found = beats(play_drums(played, duration_s=60.0))
    assert found["tempo_bpm"] == pytest.approx(120.0, rel=STEADY_TOLERANCE)
    errors = match(found["beat_times_s"], played[:-1].tolist())
    assert len(errors) >= 0.97 * len(truth)
    assert np.percentile(np.abs(errors), 90) < DATING_TOLERANCE_S


def test_there_are_no_beats_in_a_silent_beginning_or_end():
    silent = np.zeros(8 * SR, np.float32)
    drums = play_drums(count(125.0, last_s=29.0))
    found = beats(Audio(y=np.concatenate([silent, drums.y, silent]), sr=SR))
    times_s = np.array(found["beat_times_s"]) - 8.0
    assert times_s.min() == pytest.approx(0.5, abs=0.02)
    assert times_s.max() == pytest.approx(count(125.0, last_s=29.0)[-2], abs=0.3)


def chord(duration_s: float) -> Audio:
    y = sum(sound.tone(hz, duration_s, sr=SR, peak_dbfs=-16.0).y for hz in (220.0, 277.18, 329.63))
    return Audio(y=y, sr=SR)


def pink_noise(seed: int, duration_s: float) -> Audio:
    white = sound.noise(seed, duration_s, sr=SR).y
    D = np.fft.rfft(white) / np.sqrt(np.maximum(1, np.arange(len(white) // 2 + 1)))
    y = np.fft.irfft(D, len(white))
    return Audio(y=(0.5 * y / np.abs(y).max()).astype(np.float32), sr=SR)


WITHOUT_TEMPO = {
    "silence": sound.silence(5.0, sr=SR),
    "one sample": sound.silence(1 / SR, sr=SR),
    "nothing at all": Audio(y=np.zeros(0, np.float32), sr=SR),
    "a fifth of a second of clicks": sound.click_track(120.0, 0.2),
    "a fifth of a second of noise": sound.noise(0, 0.2, sr=SR),
    "one click": sound.click_track(10.0, 4.0),
    "a constant": Audio(y=np.full(10 * SR, 0.5, np.float32), sr=SR),
    "a sine": sound.tone(351.0, 30.0, sr=SR),
    "a held chord": chord(30.0),
    **{f"white noise of {s} s": sound.noise(s, float(s), sr=SR) for s in (1, 2, 3, 5, 12, 30, 90)},
    **{f"pink noise of {s} s": pink_noise(s, float(s)) for s in (2, 5, 30)},
}


@pytest.mark.parametrize("audio", WITHOUT_TEMPO.values(), ids=WITHOUT_TEMPO)
def test_where_there_is_no_tempo_there_are_no_beats(audio):
    assert beats(audio) == EMPTY


@pytest.mark.parametrize("sr", [8000, 11025, 16000, 44100, 48000, 96000])
def test_the_sampling_rate_does_not_matter(sr):
    audio = sound.music(1, bpm=97.0, duration_s=20.0, sr=sr, channels=1)
    assert_steady(beats(audio), 97.0, sound.beat_times(97.0, 20.0))


@pytest.mark.parametrize("sr", [48000, 96000])
def test_what_is_above_11_khz_has_no_beats(sr):
    audio = sound.music(1, bpm=100.0, duration_s=20.0, sr=sr, channels=1)
    y = 0.1 * audio.y
    t = np.arange(sr // 10) / sr
    burst = 0.9 * np.sin(2 * np.pi * 20_000 * t) * np.minimum(1, t / 0.005) * np.exp(-40 * t)
    for start_s in np.arange(0.2, 19.0, 60 / 137):
        y[int(start_s * sr) :][: len(burst)] += burst
    assert_steady(beats(Audio(y=y, sr=sr)), 100.0, sound.beat_times(100.0, 20.0))


@pytest.mark.parametrize("name", ["start_bpm", "tightness"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_parameter_that_is_no_positive_number_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=rf"beats: {name} is {value}: it must be"):
        beats(sound.silence(1.0, sr=SR), **{name: value})


def test_channels_are_averaged():
    mono = sound.click_track(100.0, 8.0)
    for channels in (2, 3):
        many = Audio(y=np.stack([mono.y] * channels), sr=mono.sr)
        assert beats(many)["beat_times_s"] == pytest.approx(beats(mono)["beat_times_s"], abs=1e-4)


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**-10, 2.0**60])
def test_the_level_does_not_matter(factor):
    audio = sound.music(2, duration_s=10.0, sr=SR, channels=1)
    assert beats(Audio(y=audio.y * np.float32(factor), sr=SR)) == beats(audio)


def test_the_size_of_blocks_does_not_matter(monkeypatch):
    audio = sound.music(0, bpm=133.0, duration_s=30.0, sr=SR, channels=1)
    at_once = beats(audio)
    monkeypatch.setattr(onsets, "BLOCK_FRAMES", 57)
    monkeypatch.setattr(tempo, "WINDOWS_PER_BLOCK", 2)
    assert beats(audio) == at_once


def test_an_hour_is_as_exact_as_a_minute():
    minute = sound.click_track(100.0, 60.0)
    found = beats(Audio(y=np.tile(minute.y, 60), sr=SR))
    assert found["tempo_bpm"] == pytest.approx(100.0, rel=1e-5)
    assert_steady(found, 100.0, sound.beat_times(100.0, 3600.0))


def test_confidence_tells_what_is_plain_from_what_is_not():
    plain = beats(play_drums(count(120.0)))
    # At this tempo, half of it is as likely.
    fast = beats(sound.click_track(200.0, 30.0))
    assert plain["confidence"] > 0.9 > fast["confidence"] + 0.2
    for found in (plain, fast):
        assert len(found["beat_confidences"]) == len(found["beat_times_s"])
        assert all(0 <= c <= found["confidence"] for c in found["beat_confidences"])


def test_a_beat_on_which_nothing_begins_is_less_confident():
    y = sound.click_track(120.0, 20.0).y.copy()
    y[int(7.9 * SR) : int(9.9 * SR)] = 0.0
    found = beats(Audio(y=y, sr=SR))
    in_gap = [8.0 <= t < 9.9 for t in found["beat_times_s"]]
    confidences = np.array(found["beat_confidences"])
    assert sum(in_gap) == 4
    assert confidences[in_gap].max() < 0.2 * confidences[np.logical_not(in_gap)].min()


def test_a_common_tempo_can_be_set():
    audio = sound.click_track(120.0, 20.0)
    assert beats(audio, start_bpm=45.0)["tempo_bpm"] == pytest.approx(60.0, rel=STEADY_TOLERANCE)


def test_tight_beats_follow_a_jitter_less():
    truth = move(lambda t: 120 * (1 + 0.06 * np.sin(2 * t)))
    audio = play_drums(truth, duration_s=60.0)
    spread = {
        tightness: np.std(np.diff(beats(audio, tightness=tightness)["beat_times_s"]))
        for tightness in (30.0, 30_000.0)
    }
    assert spread[30_000.0] < spread[30.0]


def test_the_result_is_plain_and_the_same_each_time():
    audio = sound.music(0, duration_s=10.0, sr=SR, channels=1)
    found = beats(audio)
    assert json.loads(json.dumps(found)) == found
    assert beats(audio) == found


def test_the_result_is_that_of_every_processor():
    # Kernels that numpy, OpenBLAS and the C library choose by processor.
    code = (
        "from segue.features.rhythm import beats; from segue.testing import sound; "
        "print(beats(sound.music(3, bpm=101.0, duration_s=15.0, sr=22050, channels=1)))"
    )
    older = {
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX",
        "OPENBLAS_CORETYPE": "Nehalem",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,-AVX2_Usable,-FMA_Usable",
    }
    results = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for environment in ({}, older)
    }
    assert len(results) == 1


def test_nothing_is_compiled_for_the_first_result():
    code = (
        "import sys; from segue.features.rhythm import beats; from segue.media.audio import Audio; "
        "import numpy as np; beats(Audio(y=np.zeros(50000, np.float32), sr=22050)); "
        "sys.exit('librosa' in sys.modules or 'numba' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_audio_that_is_too_long_for_the_memory_is_refused_at_once(bound_memory):
    bound_memory(0.25)
    hours = np.broadcast_to(np.float32(0.0), 6 * 3600 * SR)
    with pytest.raises(TooLarge, match=r"beats of 6\.0 hours needs .* resources\.memory_gib to \d"):
        beats(Audio(y=hours, sr=SR))
