"""Other programs, and plain computations, of key, danceability and fingerprint, called alike."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# How well each pitch class fits, from the tonic up, by listeners (Krumhansl and Kessler, 1982).
RATINGS = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def librosa_key(y: NDArray[np.float32], sr: int) -> dict[str, Any]:
    """Return the key whose ratings correlate best with `librosa.feature.chroma_cqt`."""
    import librosa
    import numpy as np

    tuning = librosa.estimate_tuning(y=y, sr=sr)
    chroma = librosa.feature.chroma_cqt(y=y, sr=sr, tuning=tuning).mean(axis=1)
    fits = {
        (TONICS[tonic], mode): np.corrcoef(chroma, np.roll(ratings, tonic))[0, 1]
        for mode, ratings in RATINGS.items()
        for tonic in range(12)
    }
    key, mode = max(fits, key=fits.__getitem__)
    return {"key": key, "mode": mode, "confidence": None, "tuning_cents": 100 * float(tuning)}


def plain_danceability(y: NDArray[np.float32], sr: int) -> dict[str, Any]:
    """Return the reciprocal of the mean exponent, by the definition: a line for each window."""
    import numpy as np
    from scipy.signal import detrend

    edges = np.arange(len(y) * 100 // sr + 1) * sr // 100
    levels = np.array([y[a:b].astype(np.float64).std() for a, b in itertools.pairwise(edges)])
    walk = np.cumsum(levels / levels.mean() - 1)
    lengths = np.unique(np.rint(31 * 1.1 ** np.arange(36)).astype(np.int64))
    lengths = lengths[lengths <= 880]
    fluctuations = []
    for length in lengths:
        windows = np.lib.stride_tricks.sliding_window_view(walk, length)
        parts = [detrend(windows[at : at + 1000]) for at in range(0, len(windows), 1000)]
        total = sum(float((part**2).sum()) for part in parts)
        fluctuations.append(np.sqrt(total / windows.size))
    slopes = np.diff(np.log10(fluctuations)) / np.diff(np.log10(lengths + 3.0))
    return {"danceability": 1 / max(0.1, float(slopes.mean()))}


class Fpcalc:
    """Chromaprint's own program."""

    def __init__(self, *, package: str) -> None:
        self._package = Path(package)

    def setup(self) -> None:
        """Find the libraries of the unpacked packages."""
        folders = sorted({str(path.parent) for path in self._package.rglob("*.so*")})
        known = os.environ.get("LD_LIBRARY_PATH", "")
        self._environment = {**os.environ, "LD_LIBRARY_PATH": ":".join([*folders, known])}

    def __call__(self, media: Any) -> dict[str, Any]:
        """Return what it prints for a file."""
        done = subprocess.run(
            [self._package / "usr/bin/fpcalc", "-plain", media.path],
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return {"fingerprint": done.stdout.strip()}
