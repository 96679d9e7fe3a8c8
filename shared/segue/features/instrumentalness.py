"""How sure it is that a file has no voice, as a number from 0 to 1.

The share of the time with speech or singing is compared with two bounds. Detectors find a little
voice in many an instrumental, so what is below the lower bound is ignored; above the upper one it
is a song. In between, the number falls in a straight line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.features.levels import STRETCHES_PER_S, find_gain, measure_powers
from segue.media.audio import Audio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    audio: Audio | None = None,
    *,
    ignored_share: float = 0.05,
    song_share: float = 0.3,
    vocals_floor_db: float = -18.0,
) -> Instrumentalness:
    """Tell instrumentals from songs and speech.

    Parameters
    ----------
    speech : dict
        The result of `segue.features.speech.Speech`.
    vocals : Audio, optional
        The vocals, separated from the file. A voice then counts only where they are not silent:
        what a separation leaves out was taken for a voice by mistake.
    audio : Audio, optional
        The file at any rate, with the vocals: its level, as `segue.features.levels` measures it, is
        what they are compared with.
    ignored_share, song_share : float, 0 <= ignored_share < song_share <= 1
        The shares of the time with a voice up to which the result is 1, and from which on it is 0.
    vocals_floor_db : float < 0
        Vocals are silent where the RMS of 100 ms is below the level of the file by more than this.

    Returns
    -------
    Instrumentalness
        Numbers to four decimals; None if ``speech`` has none.

    Raises
    ------
    ConfigurationError
        If the bounds are not in their order, the floor is not negative, or there are vocals
        without the file.
    """
    if not 0 <= ignored_share < song_share <= 1:
        raise ConfigurationError(
            f"instrumentalness: ignored_share is {ignored_share}, and song_share {song_share}: "
            "they must ascend, from 0 to 1"
        )
    if not vocals_floor_db < 0:
        raise ConfigurationError(
            f"instrumentalness: vocals_floor_db is {vocals_floor_db}: it must be negative"
        )
    if (vocals is None) != (audio is None):
        raise ConfigurationError(
            "instrumentalness: vocals and audio belong together: name both under needs, or neither"
        )
    if speech["reason"] is not None:
        return {"instrumentalness": None, "voice_share": None, "reason": speech["reason"]}
    share = speech["speechiness"] + speech["singing_share"]
    if vocals is not None and audio is not None:
        floor = 10 ** (vocals_floor_db / 10)
        is_audible = measure_powers(vocals) * find_gain(audio, 0.0) ** 2 >= floor
        share *= _find_audible_part(speech["segments"], is_audible)
    share = min(1.0, share)
    number = (song_share - share) / (song_share - ignored_share)
    return {
        "instrumentalness": round(min(1.0, max(0.0, number)), 4),
        "voice_share": round(share, 4),
        "reason": None,
    }


def _find_audible_part(segments: list[dict[str, Any]], is_audible: NDArray[np.bool_]) -> float:
    """Return in how much of the time with a voice something is audible, of each 100 ms."""
    import numpy as np

    has_voice = np.zeros(len(is_audible), np.bool_)
    for segment in segments:
        if segment["kind"] in VOICES:
            first = int(segment["start_s"] * STRETCHES_PER_S)
            has_voice[first : max(first + 1, round(segment["end_s"] * STRETCHES_PER_S))] = True
    return float(is_audible[has_voice].mean()) if has_voice.any() else 1.0
