"""How sure it is that a file has no voice, as a number from 0 to 1.

The share of the time with speech or singing is compared with two bounds. Detectors find a little
voice in many an instrumental, so what is below the lower bound is ignored; above the upper one it
is a song. In between, the number falls in a straight line.
"""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.features.levels import STRETCHES_PER_S, measure_powers
from segue.media.audio import Audio

PRELOAD = ("numpy",)

VOICES = ("speech", "singing")


class Instrumentalness(TypedDict):
    """How sure it is that a file has no voice."""

    instrumentalness: Annotated[
        float | None, Meta(description="from 0, with a voice, to 1, without")
    ]
    voice_share: Annotated[
        float | None, Meta(description="share of the time with speech or singing, from 0 to 1")
    ]
    reason: Annotated[str | None, Meta(description="why there is no number; null if there is")]


def instrumentalness(
    speech: dict[str, Any],
    vocals: Audio | None = None,
    *,
    ignored_share: float = 0.05,
    song_share: float = 0.3,
    vocals_floor_dbfs: float = -50.0,
) -> Instrumentalness:
    """Tell instrumentals from songs and speech.

    Parameters
    ----------
    speech : dict
        The result of `segue.features.speech.Speech`.
    vocals : Audio, optional
        The vocals, separated from the file. A voice then counts only where they are not silent:
        what a separation leaves out was taken for a voice by mistake.
    ignored_share, song_share : float, 0 <= ignored_share < song_share <= 1
        The shares of the time with a voice up to which the result is 1, and from which on it is 0.
    vocals_floor_dbfs : float < 0
        Vocals are silent where the RMS of 100 ms is below this.

    Returns
    -------
    Instrumentalness
        Numbers to four decimals; None if ``speech`` has none.

    Raises
    ------
    ConfigurationError
        If the bounds are not in their order, or a floor is not negative.
    """
    if not 0 <= ignored_share < song_share <= 1:
        raise ConfigurationError(
            f"instrumentalness: ignored_share is {ignored_share}, and song_share {song_share}: "
            "they must ascend, from 0 to 1"
        )
    if vocals_floor_dbfs >= 0:
        raise ConfigurationError(
            f"instrumentalness: vocals_floor_dbfs is {vocals_floor_dbfs}: it must be negative"
        )
    if speech["reason"] is not None:
        return {"instrumentalness": None, "voice_share": None, "reason": speech["reason"]}
    share = speech["speechiness"] + speech["singing_share"]
    if vocals is not None:
        share *= _find_audible_part(speech["segments"], vocals, vocals_floor_dbfs)
    share = min(1.0, share)
    number = (song_share - share) / (song_share - ignored_share)
    return {
        "instrumentalness": round(min(1.0, max(0.0, number)), 4),
        "voice_share": round(share, 4),
        "reason": None,
    }


def _find_audible_part(segments: list[dict[str, Any]], vocals: Audio, floor_dbfs: float) -> float:
    """Return in how much of the time with a voice the vocals are not silent."""
    import numpy as np

    audible = measure_powers(vocals) >= 10 ** (floor_dbfs / 10)
    has_voice = np.zeros(len(audible), np.bool_)
    for segment in segments:
        if segment["kind"] in VOICES:
            first = int(segment["start_s"] * STRETCHES_PER_S)
            has_voice[first : max(first + 1, round(segment["end_s"] * STRETCHES_PER_S))] = True
    return float(audible[has_voice].mean()) if has_voice.any() else 1.0
