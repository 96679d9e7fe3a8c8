"""Eight recorded songs of a game, whose beats its note charts give: Debian's fretsonfire-songs-*.

The tempo of a chart is exact, but the chart may begin some milliseconds before or after the sound.
That one number a song is measured: the shift at which the beats meet the most onsets. Whether the
chart has the tempo of the sound is seen by shifting each third of the song alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import mido
import numpy as np
import scipy.signal
import soundfile
import soxr

from truth.midi import list_beats, ticks_to_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 22_050
STEMS = ("song.ogg", "guitar.ogg", "rhythm.ogg", "bass.ogg")
N_FFT = 256
HOP_LENGTH = 55  # 2.5 ms
MOST_SHIFT_S = 0.12
# Thirds whose shifts differ more than this: the chart has another tempo than the sound.
MOST_STRETCH_S = 0.015


def list_songs(package: Path) -> list[Path]:
    """Return the folders of the songs of a package."""
    return sorted(file.parent for file in package.glob("usr/share/games/**/notes.mid"))


def mix_stems(folder: Path) -> NDArray[np.float32]:
    """Return the sum of a song's stems, mono, at 22.05 kHz."""
    stems = []
    for name in STEMS:
        if (folder / name).exists():
            y, sr = soundfile.read(folder / name, dtype="float32", always_2d=True)
            stems.append(soxr.resample(y.mean(axis=1), sr, SAMPLE_RATE_HZ, quality="HQ"))
    y = np.zeros(max(map(len, stems)), dtype=np.float32)
    for stem in stems:
        y[: len(stem)] += stem
    return y / len(stems)


def onset_strength(y: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times and how much the spectrum rises there, every 2.5 ms.

    A rise between two frames is dated half way between their centres.
    """
    _, _, S = scipy.signal.stft(
        y, nperseg=N_FFT, noverlap=N_FFT - HOP_LENGTH, window="hann", scaling="spectrum"
    )
    level = np.log1p(100 * N_FFT / 2 * np.abs(S))
    rise = np.maximum(0, np.diff(level, axis=1)).sum(axis=0)
    return (np.arange(len(rise)) + 0.5) * HOP_LENGTH / SAMPLE_RATE_HZ, rise


def find_shift(
    beats: NDArray[np.float64], times: NDArray[np.float64], rise: NDArray[np.float64]
) -> float:
    """Return by how many seconds, to the millisecond, beats must be later to meet most onsets."""
    shifts = np.arange(-MOST_SHIFT_S, MOST_SHIFT_S, 0.001)
    means = [np.interp(beats + shift, times, rise).mean() for shift in shifts]
    return float(shifts[int(np.argmax(means))])


def read_beats(folder: Path, y: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the beats of a song, moved to where its onsets are.

    Raises
    ------
    ValueError
        If the chart's tempo is not that of the sound.
    """
    chart = mido.MidiFile(folder / "notes.mid")
    duration_s = len(y) / SAMPLE_RATE_HZ
    last = 0
    while ticks_to_time(chart, last + 1000) < duration_s:
        last += 1000
    beats = list_beats(chart, last).times_s
    times, rise = onset_strength(y)
    inner = beats[(beats > 3) & (beats < duration_s - 3)]
    thirds = [find_shift(part, times, rise) for part in np.array_split(inner, 3)]
    if max(thirds) - min(thirds) > MOST_STRETCH_S:
        raise ValueError(
            f"{folder.name}: the chart is {[round(1000 * third) for third in thirds]} ms early in "
            "the song's thirds; leave the song out"
        )
    shifted = beats + find_shift(inner, times, rise)
    return shifted[(shifted >= 0) & (shifted < duration_s)]
