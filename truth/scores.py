"""How near found beats, bars and tempi are to the truth.

The measures are the field's, computed by mir_eval [1]_, without the first five seconds, as usual:

- F: beats within 70 ms of a true one, as the harmonic mean of precision and recall
- CMLt: share of the beats that are right and continue a right one, at the true metrical level
- AMLt: the same, where twice, half and off the beat are right, too

A tempo is right if it is within 4 % of the truth ("accuracy 1") [2]_. Its error beyond that is
measured against the nearest of the simple multiples of the truth, so that half the tempo, exact to
0.1 %, has an error of 0.1 %.

.. [1] Raffel, C., et al. "mir_eval: A transparent implementation of common MIR metrics." ISMIR
   2014.
.. [2] Gouyon, F., et al. "An experimental comparison of audio tempo induction algorithms." IEEE
   Transactions on Audio, Speech, and Language Processing 14.5 (2006): 1832-1844.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import mir_eval
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from truth.corpus import Item

TEMPO_TOLERANCE = 0.04
MULTIPLES = (1, 2, 1 / 2, 3, 1 / 3, 3 / 2, 2 / 3, 4 / 3, 3 / 4)
# A beat farther from a true one than this, or than a quarter of a beat, is another beat.
FARTHEST_S = 0.1
TRIMMED_S = 5.0


def score_beats(item: Item, found: dict[str, Any]) -> dict[str, float | None]:
    """Compare the beats and the tempo that a system found in an item with the truth.

    Returns
    -------
    dict
        - ``f``, ``cmlt``, ``amlt`` : float in [0, 1]
        - ``offset_ms`` : float, the median distance of found beats from true ones, positive if they
          are late; None if no beat is near a true one
        - ``tempo_right`` : 1.0 or 0.0
        - ``tempo_error`` : float, relative, to the nearest simple multiple; None without a tempo
        - ``tempo_error_at_level`` : float, relative, to the truth itself
    """
    truth, beats = trim(item.beats), trim(found["beat_times_s"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of items without beats
        f = float(mir_eval.beat.f_measure(truth, beats))
        _, cmlt, _, amlt = mir_eval.beat.continuity(truth, beats)
    tempo = found["tempo_bpm"]
    assert item.bpm is not None
    return {
        "f": f,
        "cmlt": float(cmlt),
        "amlt": float(amlt),
        "offset_ms": measure_offset(truth, beats),
        **score_tempo(item.bpm, tempo),
    }


def trim(times_s: Sequence[float]) -> Any:
    """Return the times after the first five seconds."""
    return mir_eval.beat.trim_beats(np.asarray(times_s, dtype=np.float64), TRIMMED_S)


def measure_offset(truth: Any, beats: Any) -> float | None:
    """Return the median distance in ms from true beats to the nearest found ones."""
    if len(truth) < 2 or len(beats) == 0:
        return None
    distances = np.array([beats[np.abs(beats - beat).argmin()] - beat for beat in truth])
    near = np.abs(distances) < min(FARTHEST_S, float(np.median(np.diff(truth))) / 4)
    return float(1000 * np.median(distances[near])) if near.any() else None


def score_tempo(truth: float, tempo: float | None) -> dict[str, float | None]:
    """Return whether a tempo is right, and its error with and without the metrical level."""
    if not tempo:
        return {"tempo_right": 0.0, "tempo_error": None, "tempo_error_at_level": None}
    ratio = tempo / truth
    level = min(MULTIPLES, key=lambda multiple: abs(math.log(ratio / multiple)))
    return {
        "tempo_right": float(abs(ratio - 1) <= TEMPO_TOLERANCE),
        "tempo_error": abs(ratio / level - 1),
        "tempo_error_at_level": abs(ratio - 1),
    }


def score_downbeats(item: Item, found: dict[str, Any]) -> dict[str, float | None]:
    """Compare the first beats of bars, and how many beats a bar has, with the truth."""
    assert item.downbeats is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f = mir_eval.beat.f_measure(trim(item.downbeats), trim(found["downbeat_times_s"]))
    return {"f": float(f), "metre_right": float(found["beats_per_bar"] == item.beats_per_bar)}
