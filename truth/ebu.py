"""The minimum requirements for loudness meters: the signals of EBU Tech 3341 and Tech 3342.

Of the tables of both documents, the signals that are described by numbers are synthesised. The
others exist only as files of the EBU, which may not be passed on: real programmes (cases 7 and 8 of
Tech 3341, 5 and 6 of Tech 3342) and peaks between samples (20 to 23); name the folder of the EBU's
test set to have them measured. Of the twenty files of cases 10 and 13, three are measured. Cases 11
and 14 are about a display that is read while the sound goes on.

Levels of sines are those of their peaks, in dBFS; all sound is at 48 kHz.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 48_000
INTEGRATED, RANGE, TRUE_PEAK = "integrated_lufs", "range_lu", "true_peak_dbtp"
MOMENTARY, SHORT_TERM = "momentary_max_lufs", "short_term_max_lufs"
# How far below and above the expected value a meter may be.
TOLERANCES = {
    INTEGRATED: (0.1, 0.1),
    MOMENTARY: (0.1, 0.1),
    SHORT_TERM: (0.1, 0.1),
    RANGE: (1.0, 1.0),
    TRUE_PEAK: (0.4, 0.2),
}
SILENCE_DBFS = -300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of a table.

    Attributes
    ----------
    name : str
        The document and the number, such as ``3341-1``.
    key : str
        Which value of the job is meant.
    expected : float
    path : Path
        Of the sound.
    """

    name: str
    key: str
    expected: float
    path: Path

    def accepts(self, value: float | None) -> bool:
        """Return whether a meter that shows this fulfils the requirement."""
        if value is None:
            return False
        below, above = TOLERANCES[self.key]
        # What is shown has at most three decimals.
        return -below - 1e-6 <= value - self.expected <= above + 1e-6


# Name → levels in dBFS with seconds, what is measured, and its value.
STEPS: dict[str, tuple[tuple[tuple[float, float], ...], str, float]] = {
    "3341-1": (((-23, 20),), INTEGRATED, -23),
    "3341-2": (((-33, 20),), INTEGRATED, -33),
    "3341-3": (((-36, 10), (-23, 60), (-36, 10)), INTEGRATED, -23),
    "3341-4": (((-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)), INTEGRATED, -23),
    "3341-5": (((-26, 20), (-20, 20.1), (-26, 20)), INTEGRATED, -23),
    "3341-9": (((-20, 1.34), (-30, 1.66)) * 5, SHORT_TERM, -23),
    **{
        f"3341-10.{i:02}": (
            ((SILENCE_DBFS, 0.15 * i), (-23, 3), (SILENCE_DBFS, 1)),
            SHORT_TERM,
            -23,
        )
        for i in (1, 10, 20)
    },
    "3341-12": (((-20, 0.18), (-30, 0.22)) * 25, MOMENTARY, -23),
    **{
        f"3341-13.{i:02}": (
            ((SILENCE_DBFS, 0.02 * i), (-23, 0.4), (SILENCE_DBFS, 1)),
            MOMENTARY,
            -23,
        )
        for i in (1, 10, 20)
    },
    "3342-1": (((-20, 20), (-30, 20)), RANGE, 10),
    "3342-2": (((-20, 20), (-15, 20)), RANGE, 5),
    "3342-3": (((-40, 20), (-20, 20)), RANGE, 20),
    "3342-4": (((-50, 20), (-35, 20), (-20, 20), (-35, 20), (-50, 20)), RANGE, 15),
}
# Left, right, centre, and the two surrounds.
SURROUND_DBFS = (-28, -28, -24, -30, -30)
# Name → the rate's divisor, the phase in degrees, the amplitude, and the true peak.
PEAKS = {
    "3341-15": (4, 0.0, 0.50, -6),
    "3341-16": (4, 45.0, 0.50, -6),
    "3341-17": (6, 60.0, 0.50, -6),
    "3341-18": (8, 67.5, 0.50, -6),
    "3341-19": (4, 45.0, 1.41, 3),
}
# Name → the beginning of its file's name, what is measured, and its value.
FILES = {
    "3341-7": ("seq-3341-7", INTEGRATED, -23),
    "3341-8": ("seq-3341-2011-8", INTEGRATED, -23),
    "3341-20": ("seq-3341-20", TRUE_PEAK, 0),
    "3341-21": ("seq-3341-21", TRUE_PEAK, 0),
    "3341-22": ("seq-3341-22", TRUE_PEAK, 0),
    "3341-23": ("seq-3341-23", TRUE_PEAK, 0),
    "3342-5": ("seq-3341-7_seq-3342-5", RANGE, 5),
    "3342-6": ("seq-3341-2011-8_seq-3342-6", RANGE, 15),
}


def sine(
    hz: float, seconds: float, amplitude: float, phase_deg: float = 0.0
) -> NDArray[np.float64]:
    """Return a sine."""
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return amplitude * np.sin(2 * np.pi * hz * t + np.radians(phase_deg))


def build_steps(steps: Iterable[tuple[float, float]]) -> NDArray[np.float64]:
    """Return a sine of 1 kHz on two channels that goes through levels."""
    y = np.concatenate([sine(1000, seconds, 10 ** (level / 20)) for level, seconds in steps])
    return np.stack([y, y])


def build_peak(divisor: int, phase_deg: float, amplitude: float) -> NDArray[np.float64]:
    """Return a sine whose samples miss its peaks, on two channels, with ends that rise slowly."""
    y = sine(SAMPLE_RATE_HZ / divisor, 5.0, amplitude, phase_deg)
    ramp = np.minimum(1, np.arange(len(y)) / (0.1 * SAMPLE_RATE_HZ))
    y = y * ramp * ramp[::-1]
    return np.stack([y, y])


def write_cases(folder: Path, ebu: Path | None = None) -> list[Case]:
    """Write the signals into a folder; return all cases that can be measured, by number.

    Parameters
    ----------
    folder : Path
    ebu : Path or None
        The folder of the EBU's own files.

    Raises
    ------
    FileNotFoundError
        If that folder lacks one of them.
    """
    cases = []

    def add(name: str, key: str, expected: float, y: NDArray[np.float64]) -> None:
        path = folder / f"{name}.wav"
        soundfile.write(path, y.T, SAMPLE_RATE_HZ, "FLOAT")
        cases.append(Case(name=name, key=key, expected=expected, path=path))

    for name, (steps, key, expected) in STEPS.items():
        add(name, key, expected, build_steps(steps))
    surround = np.stack([sine(1000, 20, 10 ** (level / 20)) for level in SURROUND_DBFS])
    add("3341-6", INTEGRATED, -23, surround)
    for name, (divisor, phase_deg, amplitude, expected) in PEAKS.items():
        add(name, TRUE_PEAK, expected, build_peak(divisor, phase_deg, amplitude))
    if ebu is not None:
        for name, (prefix, key, expected) in FILES.items():
            paths = sorted(ebu.glob(f"{prefix}[-_]*.wav"))
            if not paths:
                raise FileNotFoundError(
                    f"{ebu} has no file {prefix}*.wav; name the folder with the unpacked loudness "
                    "test set of the EBU"
                )
            cases.append(Case(name=name, key=key, expected=expected, path=paths[0]))
    return sorted(cases, key=lambda case: [float(part) for part in case.name.split("-")])
