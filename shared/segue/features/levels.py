"""How loud a file is in each 100 ms, and what gain brings it to the level that a network knows.

Networks learn at usual levels, and miss what is much quieter. The level of a file is the mean power
of its stretches of 100 ms that are above -80 dBFS, and then of those that are no more than 10 dB
below the mean of these, so that pauses do not count. What is more than 30 dB above their median
counts as 30 dB above it, so that a click does not decide.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from segue.media.audio import Audio, iterate_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STRETCHES_PER_S = 10
STRETCHES_AT_ONCE = 100
QUIETEST_POWER = 10**-8.0
GATE = 10.0
LOUDEST = 1_000.0


def find_gain(audio: Audio, level_dbfs: float) -> float:
    """Return by what to multiply the samples to bring them to a level; 0.0 if they are silence.

    Parameters
    ----------
    audio : Audio
        The whole file; it is read in blocks.
    level_dbfs : float
        The level that it is to have, where a square wave at full scale has 0.
    """
    import numpy as np

    powers = measure_powers(audio)
    powers = powers[powers > QUIETEST_POWER]
    if not len(powers):
        return 0.0
    powers = np.minimum(powers, LOUDEST * np.median(powers))
    level = float(powers[powers >= powers.mean() / GATE].mean())
    return math.sqrt(10 ** (level_dbfs / 10) / level)


def measure_powers(audio: Audio) -> NDArray[np.float64]:
    """Return the mean power of the channels in each 100 ms; the last may be shorter."""
    import numpy as np

    size = max(1, audio.sr // STRETCHES_PER_S)
    powers = [np.zeros(0)]  # a file may be empty
    for _, block in iterate_blocks(audio.y, STRETCHES_AT_ONCE * size):
        power = np.square(block, dtype=np.float64)
        power = power.mean(axis=0) if power.ndim == 2 else power
        starts = np.arange(0, len(power), size)
        powers.append(np.add.reduceat(power, starts) / np.diff(starts, append=len(power)))
    return np.concatenate(powers)
