"""Synthesised music with drums, bass, chords and an arpeggio, and a known tempo, beat and key."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError
from segue.extras import require
from segue.media.audio import Audio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

require("segue.testing.music", "audio")

TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Degrees of the scale, one chord per bar; each starts on the tonic, so the key is unambiguous.
PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6)),
}
PEAK_DBFS = -1.5


def music(
    seed: int = 0,
    *,
    bpm: float = 120.0,
    key: str = "A minor",
    duration_s: float = 30.0,
    sr: int = 44100,
    channels: int = 2,
) -> Audio:
    """Return a piece in 4/4 time with its beats at `sound.beat_times(bpm, duration_s)`.

    Parameters
    ----------
    seed : int
        Chooses the chord progression, the arpeggio, and the sound of the drums.
    bpm : float > 0
        Quarter notes per minute. Kick and snare are on them, the hi-hat is on the eighths.
    key : str
        Tonic and mode, such as ``"F# major"``.
    duration_s : float > 0
        Length in seconds; the last bar may be cut off.
    sr : int > 0
        Sampling rate in Hz.
    channels : {1, 2}
        Mono, or stereo with the hi-hat and the arpeggio at the sides.

    Returns
    -------
    Audio
        Peaks at -1.5 dBFS.
    """
    import numpy as np

    tonic, _, mode = key.partition(" ")
    if tonic not in TONICS or mode not in SCALES:
        raise ConfigurationError(f"key {key!r} is unknown: use one such as 'C major' or 'F# minor'")
    rng = np.random.default_rng(seed)
    progression = PROGRESSIONS[mode][rng.integers(len(PROGRESSIONS[mode]))]
    steps = rng.permutation([0, 1, 2, 3, 2, 1, 2, 4])
    beat_s = 60.0 / bpm
    middle, side = (np.zeros(round(duration_s * sr)) for _ in range(2))
    kick, snare, hat = (
        drum(sr, rng) for drum in (_synthesise_kick, _synthesise_snare, _synthesise_hat)
    )
    pitch = partial(_degree_to_hz, 45 + (TONICS.index(tonic) - 9) % 12, SCALES[mode])
    voice = cache(partial(_synthesise_voice, sr))
    for eighth in range(int(duration_s / beat_s * 2) + 1):
        at = round(eighth * beat_s / 2 * sr)
        chord = progression[eighth // 8 % 4]
        if eighth % 2 == 0:
            add(middle, (snare, kick)[eighth % 4 == 0], at)
            add(middle, 0.35 * voice(pitch(chord) / 2, beat_s, 0.4), at)
        add(side, (0.5 if eighth % 2 else 1.0) * hat, at)
        if eighth % 8 == 0:
            for third in (0, 2, 4):
                add(middle, 0.09 * voice(pitch(chord + third), 4 * beat_s, 1.0), at)
        note = pitch(chord + 2 * int(steps[eighth % 8]) + 7)
        add(side if eighth % 2 else middle, 0.10 * voice(note, beat_s, 0.25), at)
    return _mix(middle, side, sr, channels)


def _mix(middle: NDArray[np.float64], side: NDArray[np.float64], sr: int, channels: int) -> Audio:
    import numpy as np

    y = middle + side if channels == 1 else np.stack([middle + side, middle + 0.4 * side])
    y *= 10 ** (PEAK_DBFS / 20) / max(1e-9, float(np.abs(y).max()))
    return Audio(y=y.astype(np.float32), sr=sr)


def _degree_to_hz(tonic_midi: int, scale: tuple[int, ...], degree: int) -> float:
    octave, step = divmod(degree, len(scale))
    return float(440.0 * 2 ** ((tonic_midi + 12 * octave + scale[step] - 69) / 12))


def _synthesise_voice(
    sr: int, frequency_hz: float, duration_s: float, decay_s: float
) -> NDArray[np.float64]:
    import numpy as np

    t = np.arange(int(duration_s * sr)) / sr
    envelope = np.minimum(1, t / 0.01) * np.exp(-t / decay_s)
    envelope *= np.clip((duration_s - t) / 0.03, 0, 1)
    harmonics = range(1, min(9, int(sr / 2 / frequency_hz)))
    return envelope * sum(
        (np.sin(2 * np.pi * h * frequency_hz * t) / h**1.6 for h in harmonics), np.zeros_like(t)
    )


def _synthesise_kick(sr: int, rng: np.random.Generator) -> NDArray[np.float64]:
    import numpy as np

    t = np.arange(int(0.25 * sr)) / sr
    low_hz = 45 + 10 * rng.random()
    phase = 2 * np.pi * (low_hz * t + 120 * 0.03 * (1 - np.exp(-t / 0.03)))
    return 0.9 * np.sin(phase) * np.exp(-t / 0.07)


def _synthesise_snare(sr: int, rng: np.random.Generator) -> NDArray[np.float64]:
    import numpy as np

    t = np.arange(int(0.2 * sr)) / sr
    body = 0.4 * np.sin(2 * np.pi * (170 + 40 * rng.random()) * t) * np.exp(-t / 0.04)
    return body + 0.28 * rng.standard_normal(len(t)) * np.exp(-t / 0.05)


def _synthesise_hat(sr: int, rng: np.random.Generator) -> NDArray[np.float64]:
    import numpy as np

    t = np.arange(int(0.06 * sr)) / sr
    # The difference of white noise is high-passed noise.
    return 0.12 * np.diff(rng.standard_normal(len(t) + 1)) * np.exp(-t / 0.015)


def add(y: NDArray[np.float64], what: NDArray[np.float64], at: int) -> None:
    """Mix a sound into `y` from sample `at` on; anything past the end is dropped."""
    end = min(len(y), at + len(what))
    if at < end:
        y[at:end] += what[: end - at]
