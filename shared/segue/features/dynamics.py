"""The energy of a file and of each of its beats, as root mean square.

Levels are in dB relative to full scale, where an RMS of 1.0 is 0 dBFS: a full-scale square wave
measures 0.0, a full-scale sine -3.01. (AES17 puts the sine at 0; add 3.01 for that.) This is the
energy of the signal, not its perceived loudness: for that, see `segue.features.ebu_r128`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.media.audio import Audio, iterate_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("numpy",)


class Energy(TypedDict):
    """The RMS energy of a file and of each of its beats."""

    rms_dbfs: Annotated[float, Meta(description="of the whole file")]
    lead_in_rms_dbfs: Annotated[
        float | None, Meta(description="before the first beat; null if nothing is, or no beat")
    ]
    beat_rms_dbfs: Annotated[list[float], Meta(description="one for each beat")]
    floor_dbfs: Annotated[float, Meta(description="what anything quieter is set to")]


def energy(audio: Audio, beats: dict[str, Any], *, floor_dbfs: float = -120.0) -> Energy:
    """Measure the RMS energy of a file and of each of its beats.

    A beat lasts from its time to that of the next one, the last to the end of the file. The part
    before the first beat is separate, so the list corresponds one to one to ``beat_times_s``.

    Parameters
    ----------
    audio : Audio
        The audio; the power of several channels is averaged.
    beats : dict
        The result of `segue.features.rhythm.beats`; ``beat_times_s`` is used.
    floor_dbfs : float < 0
        Returned for anything quieter, digital silence included.

    Returns
    -------
    Energy
        Levels in dB; those of beats correspond one to one to ``beat_times_s``.

    Raises
    ------
    ConfigurationError
        If the beats are not ascending or not within the file.
    """
    import numpy as np

    n = audio.y.shape[-1]
    edges = _find_edges(beats["beat_times_s"], audio.sr, n)
    sums = _sum_squares(audio.y, edges)
    levels = _power_to_dbfs(sums / np.diff(edges, append=n), floor_dbfs)
    overall = _power_to_dbfs(sums.sum(keepdims=True) / n, floor_dbfs)
    # The first edge is the start of the file; the first beat may be on it.
    after_lead_in = len(edges) - len(beats["beat_times_s"])
    lead_in = levels[0] if after_lead_in and len(edges) > 1 else None
    return {
        "rms_dbfs": overall[0],
        "lead_in_rms_dbfs": lead_in,
        "beat_rms_dbfs": levels[after_lead_in:],
        "floor_dbfs": floor_dbfs,
    }


def _find_edges(times_s: list[float], sr: int, n: int) -> NDArray[np.intp]:
    """Return the first sample of each interval, starting with the lead-in if there is one."""
    import numpy as np

    starts = np.rint(np.asarray(times_s, np.float64) * sr).astype(np.intp)
    if len(starts) and (starts[0] < 0 or starts[-1] >= n or (np.diff(starts) <= 0).any()):
        raise ConfigurationError(
            f"the beats go from {times_s[0]} to {times_s[-1]} in a file of {n / sr:.3f} s: they "
            "must be ascending and within it. Did you supply milliseconds, or another file's beats?"
        )
    return starts if len(starts) and starts[0] == 0 else np.concatenate([[0], starts])


def _sum_squares(y: NDArray[np.float32], edges: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the sum of squared samples from each edge to the next."""
    import numpy as np

    sums = np.zeros(len(edges))
    for start, block in iterate_blocks(y):
        power = np.square(block, dtype=np.float64)
        if power.ndim == 2:
            power = power.mean(axis=0)
        first = np.searchsorted(edges, start, "right") - 1
        last = np.searchsorted(edges, start + len(power), "left")
        sums[first:last] += np.add.reduceat(power, np.maximum(edges[first:last] - start, 0))
    return sums


def _power_to_dbfs(power: NDArray[np.float64], floor_dbfs: float) -> list[float]:
    import numpy as np

    levels = 10 * np.log10(np.maximum(power, 10 ** (floor_dbfs / 10)))
    return [round(level, 3) for level in levels.tolist()]
