"""Mixes of a voice and music at known levels, and how near a separation comes to both.

The measure is the scale-invariant ratio of signal to distortion [1]_: of the part of an estimate
that is a multiple of the truth, and of what is left, in dB.

.. [1] Le Roux, J., Wisdom, S., Erdogan, H. and Hershey, J. R. "SDR - half-baked or well done?"
   ICASSP (2019): 626-630.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PEAK = 0.9
SMALLEST = 1e-12


def si_sdr(truth: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return the scale-invariant ratio of signal to distortion in dB, of all channels as one."""
    reference = truth.ravel().astype(np.float64)
    estimate = found.ravel().astype(np.float64)
    reference -= reference.mean()
    estimate -= estimate.mean()
    signal = (reference @ estimate) / (reference @ reference + SMALLEST) * reference
    rest = estimate - signal
    return float(10 * np.log10(signal @ signal / (rest @ rest + SMALLEST) + SMALLEST))


def score_stems(
    mix: NDArray[np.float32],
    voice: NDArray[np.float32],
    vocals: NDArray[np.float32],
    accompaniment: NDArray[np.float32],
) -> dict[str, float]:
    """Return the ratios of both parts, and by how much they are above those of the mix, in dB."""
    rest = mix - voice
    found = si_sdr(voice, vocals), si_sdr(rest, accompaniment)
    return {
        "vocals_db": found[0],
        "vocals_gain_db": found[0] - si_sdr(voice, mix),
        "accompaniment_db": found[1],
        "accompaniment_gain_db": found[1] - si_sdr(rest, mix),
    }


def mix_voice(
    voice: NDArray[np.float32],
    music: NDArray[np.float32],
    above_db: float,
    level_db: float = 0.0,
) -> NDArray[np.float32]:
    """Return a mix on two channels, and the voice in it on two more.

    Parameters
    ----------
    voice : np.ndarray [shape=(2, n)]
    music : np.ndarray [shape=(2, m)]
        What it lacks at the end is silence.
    above_db : float
        By how much the RMS of the voice is above that of the music.
    level_db : float
        The peak, below that of a mix that is normalised to 0.9.

    Returns
    -------
    np.ndarray [shape=(4, n)]
    """
    length = voice.shape[1]
    music = np.pad(music[:, :length], ((0, 0), (0, max(0, length - music.shape[1]))))
    voice = voice / np.sqrt(np.mean(voice**2)) * 10 ** (above_db / 20)
    music = music / np.sqrt(np.mean(music**2))
    both = np.concatenate([voice + music, voice])
    gain = PEAK / np.abs(both[:2]).max() * 10 ** (level_db / 20)
    return (both * gain).astype(np.float32)
