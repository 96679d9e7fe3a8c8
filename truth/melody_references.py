"""Other programs that find pitches and notes, called alike."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOWEST_HZ, HIGHEST_HZ = 50.0, 2093.75
HOP_LENGTH = 256


def share_packages(folder: str) -> None:
    """Make the packages of another Python importable, after this one's own."""
    if folder not in sys.path:
        sys.path.append(folder)


def librosa_pitch(y: NDArray[np.float32], sr: int) -> dict[str, Any]:
    """Return the pitches of `librosa.pyin`."""
    import librosa
    import numpy as np

    f0_hz, _, _ = librosa.pyin(y, fmin=LOWEST_HZ, fmax=HIGHEST_HZ, sr=sr, hop_length=HOP_LENGTH)
    pitches = [None if np.isnan(hz) else float(hz) for hz in f0_hz]
    return {"hop_s": HOP_LENGTH / sr, "f0_hz": pitches}


class SwiftPitch:
    """The package swift-f0, with its defaults and one thread."""

    def __init__(self, *, packages: str) -> None:
        self._packages = packages

    def setup(self) -> None:
        """Load the network."""
        share_packages(self._packages)
        from swift_f0 import SwiftF0

        self._detector = SwiftF0(threads=1, spin=False)

    def __call__(self, y: NDArray[np.float32], sr: int) -> dict[str, Any]:
        """Return the pitches where the package says that there is one."""
        found = self._detector.detect(y, sr)
        pairs = zip(found.pitch_hz.tolist(), found.confidence.tolist(), strict=True)
        return {
            "hop_s": HOP_LENGTH / sr,
            "f0_hz": [hz if confidence >= 0.5 else None for hz, confidence in pairs],
        }


class BasicPitch:
    """The package basic-pitch, with its defaults."""

    def __init__(self, *, packages: str) -> None:
        self._packages = packages

    def setup(self) -> None:
        """Load the network, as ONNX."""
        import logging

        share_packages(self._packages)
        logging.disable(logging.CRITICAL)  # it says which frameworks are not installed
        from basic_pitch import FilenameSuffix, build_icassp_2022_model_path
        from basic_pitch.inference import Model

        self._model = Model(build_icassp_2022_model_path(FilenameSuffix.onnx))

    def __call__(self, y: NDArray[np.float32], sr: int) -> dict[str, Any]:
        """Return the notes."""
        import soundfile
        from basic_pitch.inference import predict

        quiet = contextlib.redirect_stdout(None)  # it prints a line for each file
        with tempfile.NamedTemporaryFile(suffix=".wav") as file, quiet:
            soundfile.write(file.name, y, sr, "PCM_16")
            _, _, events = predict(file.name, self._model)
        notes = [
            {"start_s": float(start), "end_s": float(end), "midi": int(key)}
            for start, end, key, *_ in events
        ]
        return {"notes": notes}
