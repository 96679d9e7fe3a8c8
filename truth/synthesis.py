"""Sound that is computed: clicks, drums at a steady or a moving tempo, and sound without tempo."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Signal = NDArray[np.float32]
    Times = NDArray[np.float64]

SAMPLE_RATE_HZ = 22_050
DURATION_S = 60.0
TEMPI_BPM = (60, 80, 90, 100, 120, 140, 160, 174, 180)

# What sounds at a beat's place in its bar of four, on the beat and half a beat later: the kick (k),
# the snare (s) and the hi-hat (h); a kick in brackets is softer.
PATTERNS = {
    "eighths": (("kh", "sh", "kh", "sh"), ("h", "h", "h", "h")),
    "kick-snare": (("k", "s", "k", "s"), ("", "", "", "")),
    "four-on-the-floor": (("k", "ks", "k", "ks"), ("H", "H", "H", "H")),
    "rock": (("kh", "sh", "kh", "sh"), ("h", "h", "hK", "h")),
}


def click_track(bpm: float) -> tuple[Signal, Times]:
    """Return clicks of 1 kHz, and when they begin."""
    beats = np.arange(0.4321, DURATION_S - 0.2, 60 / bpm)
    t = np.arange(round(0.01 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    click = 0.8 * np.sin(2 * np.pi * 1000 * t) * np.exp(-400 * t)
    y = np.zeros(round(DURATION_S * SAMPLE_RATE_HZ))
    for beat in beats:
        add(y, click, beat)
    return y.astype(np.float32), beats


def drum_sounds(rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Return one kick, one snare and one closed hat, each of a quarter of a second."""
    t = np.arange(round(0.25 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    # The pitch falls from 110 Hz to 50 Hz within some 50 ms.
    kick = np.sin(2 * np.pi * (50 * t + 60 / 40 * (1 - np.exp(-40 * t)))) * np.exp(-14 * t)
    snare = 0.5 * rng.normal(size=len(t)) * np.exp(-22 * t)
    hat = 0.25 * np.diff(rng.normal(size=len(t) + 1)) * np.exp(-90 * t)
    return {"k": kick, "K": 0.8 * kick, "s": snare, "h": hat, "H": 1.5 * hat}


def drums(pattern: str, beats: Times, *, seed: int = 1) -> Signal:
    """Return a minute of drums on these beats; what is between two beats is half way."""
    rng = np.random.default_rng(seed)
    y = rng.normal(0, 0.002, round(DURATION_S * SAMPLE_RATE_HZ))
    sounds = drum_sounds(rng)
    on, between = PATTERNS[pattern]
    for index, beat in enumerate(beats):
        for sound in on[index % 4]:
            add(y, sounds[sound], beat)
        if index + 1 < len(beats):
            for sound in between[index % 4]:
                add(y, sounds[sound], (beat + beats[index + 1]) / 2)
    return (0.5 * y).astype(np.float32)


def add(y: NDArray[np.float64], sound: NDArray[np.float64], at_s: float) -> None:
    """Mix a sound in at the sample nearest to a time."""
    start = round(at_s * SAMPLE_RATE_HZ)
    length = min(len(sound), len(y) - start)
    y[start : start + length] += sound[:length]


def steady_beats(bpm: float) -> Times:
    """Return the beats of drums at one tempo."""
    return np.arange(0.5, DURATION_S - 0.6, 60 / bpm)


def moving_beats(bpm_at: Callable[[float], float]) -> Times:
    """Return beats whose tempo is a function of time."""
    beats = [0.5]
    while beats[-1] < DURATION_S - 1.5:
        beats.append(beats[-1] + 60 / bpm_at(beats[-1]))
    return np.array(beats)


def jitter(beats: Times, sigma_s: float, *, seed: int = 3) -> Times:
    """Return beats that are early or late, each by chance."""
    return beats + np.random.default_rng(seed).normal(0, sigma_s, len(beats))


def list_moving() -> dict[str, Times]:
    """Return beats of the tempi that move, by name."""
    return {
        "ramp-110-125": moving_beats(lambda t: 110 + 15 * t / 60),
        "ramp-100-140": moving_beats(lambda t: 100 + 40 * t / 60),
        "ramp-125-110": moving_beats(lambda t: 125 - 15 * t / 60),
        "sine-4-percent": moving_beats(lambda t: 120 * (1 + 0.04 * np.sin(t / 5))),
        "jump-120-128": moving_beats(lambda t: 120 if t < 30 else 128),
        "jump-100-150": moving_beats(lambda t: 100 if t < 30 else 150),
        "jitter-10-ms": jitter(steady_beats(120), 0.01),
        "jitter-20-ms": jitter(steady_beats(120), 0.02),
    }


def list_without_tempo() -> dict[str, Signal]:
    """Return sounds that have no beat, by name."""
    rng = np.random.default_rng(5)
    length = 30 * SAMPLE_RATE_HZ
    t = np.arange(length) / SAMPLE_RATE_HZ
    spectrum = np.fft.rfft(rng.normal(size=length))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), length)
    chord = sum(
        np.sin(2 * np.pi * f * k * t) / k for f in (220.0, 277.18, 329.63) for k in range(1, 6)
    )
    sounds = {
        "silence": np.zeros(length),
        "one-sample": np.eye(1, length, length // 2)[0],
        "dc": np.full(length, 0.5),
        "white-noise": 0.1 * rng.normal(size=length),
        "pink-noise": 0.1 * pink / pink.std(),
        "sine": 0.5 * np.sin(2 * np.pi * 440 * t),
        "chord": 0.1 * np.asarray(chord),
    }
    return {name: y.astype(np.float32) for name, y in sounds.items()}
