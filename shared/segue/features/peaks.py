"""What a player draws of a file: its waveform, and its loudness over time.

The waveform is the lowest and the highest sample of each of many short spans, as
`audiowaveform <https://github.com/bbc/audiowaveform>`_ stores it. Loudness is the momentary
loudness of EBU R 128, over 400 ms [1]_.

.. [1] EBU Tech 3341, "Loudness metering: 'EBU mode' metering to supplement EBU R 128 loudness
   normalisation."
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta

from segue.features.ebu_r128 import weigh_channels
from segue.features.loudness_meter import LoudnessMeter, to_lufs
from segue.media.audio import Media, iterate_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("numpy", "segue.features.ebu_r128:warm_up")

SPANS = 12_000  # at most; a screen has 4,000 columns
SHORTEST_SPAN_S = 0.01
WINDOWS = 2_400  # at most
HOP_S = 0.1  # of the shortest windows
FULL_SCALE = 127
QUIETEST_LUFS = -70.0  # below which nothing is measured


class Waveform(TypedDict):
    """The waveform of a file, and its loudness over time."""

    duration_s: Annotated[float, Meta(description="of the sound")]
    span_s: Annotated[float, Meta(description="seconds between two spans of the waveform")]
    minima: Annotated[
        list[int], Meta(description="the lowest sample of each span in any channel, -127 to 127")
    ]
    maxima: Annotated[
        list[int], Meta(description="the highest sample of each span in any channel, -127 to 127")
    ]
    hop_s: Annotated[float, Meta(description="seconds between two values of loudness")]
    momentary_lufs: Annotated[
        list[float | None],
        Meta(description="of the power from here to the next value; null below -70 LUFS"),
    ]


def peaks(media: Media) -> Waveform:
    """Find the peaks of short spans, and measure the loudness over time.

    Parameters
    ----------
    media : Media
        The file, with its own channels. It is not decoded again if another job has decoded it.

    Returns
    -------
    Waveform
        At most 12,000 spans, of at least 10 ms, and at most 2,400 values of loudness. Samples
        beyond full scale, in a file of floats, are at full scale.
    """
    import numpy as np

    audio = media.audio()
    frames = audio.y.shape[-1]
    span = max(math.ceil(frames / SPANS), round(SHORTEST_SPAN_S * audio.sr), 1)
    spans = math.ceil(frames / span)
    low, high = np.full(spans, np.inf, np.float32), np.full(spans, -np.inf, np.float32)
    meter = LoudnessMeter(audio.sr, weigh_channels(0, audio.channels), true_peak=False)
    for start, block in iterate_blocks(audio.y):
        meter.feed(block)
        _find_extremes(np.atleast_2d(block), start, span, low, high)
    hop_s, loudness = _thin_out(meter.measure_momentary())
    return {
        "duration_s": frames / audio.sr,
        "span_s": span / audio.sr,
        "minima": _quantise(low),
        "maxima": _quantise(high),
        "hop_s": hop_s,
        "momentary_lufs": loudness,
    }


def _find_extremes(
    block: NDArray[np.float32],
    start: int,
    span: int,
    low: NDArray[np.float32],
    high: NDArray[np.float32],
) -> None:
    """Lower and raise the extremes of the spans that a block [shape=(channels, m)] is in."""
    import numpy as np

    first = start // span
    begins = np.arange(first, (start + block.shape[1] - 1) // span + 1) * span - start
    begins = np.maximum(begins, 0)
    for extremes, find in ((low, np.minimum), (high, np.maximum)):
        found = find.reduce([find.reduceat(samples, begins) for samples in block])
        part = extremes[first : first + len(found)]
        find(part, found, out=part)


def _quantise(values: NDArray[np.float32]) -> list[int]:
    import numpy as np

    scaled = np.round(FULL_SCALE * np.nan_to_num(values, posinf=0.0, neginf=0.0))
    found: list[int] = np.clip(scaled, -FULL_SCALE, FULL_SCALE).astype(int).tolist()
    return found


def _thin_out(powers: NDArray[np.float64]) -> tuple[float, list[float | None]]:
    """Return the loudness of so many windows that they are not too many, and their distance."""
    import numpy as np

    step = max(math.ceil(len(powers) / WINDOWS), 1)
    begins = np.arange(0, len(powers), step)
    sums = np.add.reduceat(powers, begins) if len(powers) else powers
    counts = np.minimum(step, len(powers) - begins)
    loudness = [to_lufs(power) for power in (sums / counts).tolist()]
    audible = [x if x is not None and x > QUIETEST_LUFS else None for x in loudness]
    return step * HOP_S, audible
