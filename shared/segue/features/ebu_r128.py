"""Perceived loudness after EBU R 128.

Integrated loudness is the power of all channels after a filter that models the head and the ear (K
weighting), in blocks of 400 ms every 100 ms. Blocks below -70 LUFS are ignored, and so are those
more than 10 LU below the mean of the rest: pauses do not make a piece quieter [1]_. The loudness
range is the distance between the 10th and the 95th percentile of loudness over 3 s, gated at -70
LUFS and 20 LU below the mean [2]_. The maxima are those of the loudness over 400 ms (momentary) and
over 3 s (short-term) [3]_. The true peak is that of the signal between its samples [1]_.

Everything is measured at the file's own rate, in one pass. `segue.features.k_weighting` says how
the filter of the standard, which is for 48 kHz, is taken to other rates.

A low-frequency channel counts 0, and those at the sides and behind count 1.41; of more than eight
channels, only those at the sides do, as in table 4 of [1]_. The places are those that the file
declares. If it declares none, they are the usual ones of so many channels, as ffmpeg knows them, or
more than eight channels, such as those of Ambisonics, all count 1.

.. [1] ITU-R BS.1770-5, "Algorithms to measure audio programme loudness and true-peak audio level."
.. [2] EBU Tech 3342, "Loudness range: a measure to supplement EBU R 128 loudness normalisation."
.. [3] EBU Tech 3341, "Loudness metering: 'EBU mode' metering to supplement EBU R 128 loudness
   normalisation."
"""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from segue.features.loudness_meter import Loudness, LoudnessMeter
from segue.media import riff
from segue.media.audio import Audio, Media, iterate_blocks

PRELOAD = ("numpy", "segue.features.ebu_r128:warm_up")

# The places of channels are the bits of a WAV file's channel mask.
LOW_FREQUENCY = 1 << 3
SIDES = 1 << 9 | 1 << 10
# The back left, right and centre, and those above them.
BEHIND = 1 << 4 | 1 << 5 | 1 << 8 | 1 << 15 | 1 << 16 | 1 << 17
SURROUND_WEIGHT = 1.41
# Of one to eight channels without declared places: mono, stereo, 2.1, 4.0, 5.0, 5.1, 6.1 and 7.1.
USUAL_MASKS = (0x4, 0x3, 0xB, 0x107, 0x37, 0x3F, 0x70F, 0x63F)


class ProgrammeLoudness(TypedDict):
    """The loudness and the peaks of a file, to three decimals."""

    integrated_lufs: Annotated[
        float | None, Meta(description="null if no block of 400 ms is louder than -70 LUFS")
    ]
    range_lu: Annotated[
        float | None,
        Meta(description="null if nothing is louder than -70 LUFS over 3 s, or below 4 s"),
    ]
    momentary_max_lufs: Annotated[
        float | None, Meta(description="over 400 ms; null for digital silence and below 400 ms")
    ]
    short_term_max_lufs: Annotated[
        float | None, Meta(description="over 3 s; null for digital silence and below 3 s")
    ]
    true_peak_dbtp: Annotated[
        float | None, Meta(description="at least the sample peak; null for digital silence")
    ]
    sample_peak_dbfs: Annotated[float | None, Meta(description="null for digital silence")]
    channel_sample_peaks_dbfs: Annotated[
        list[float | None], Meta(description="the same of each channel")
    ]


def loudness(media: Media) -> ProgrammeLoudness:
    """Measure the loudness of a media file with its own channels.

    Parameters
    ----------
    media : Media
        The file. It is not decoded again if another job has decoded it.

    Returns
    -------
    ProgrammeLoudness
        Mono counts as one loudspeaker, so it measures 3 LU less than the same signal on two.
        Samples above full scale, in a file of floats, are measured as they are.
    """
    audio = media.audio()
    with open(media.decode_to_wav(), "rb") as file:
        header = riff.read_header(file)
    mask = header.channel_mask if header is not None else 0
    measured = _measure(audio, weigh_channels(mask, audio.channels))
    peaks = list(measured.sample_peaks_dbfs)
    return {
        "integrated_lufs": measured.integrated_lufs,
        "range_lu": measured.range_lu,
        "momentary_max_lufs": measured.momentary_max_lufs,
        "short_term_max_lufs": measured.short_term_max_lufs,
        "true_peak_dbtp": measured.true_peak_dbtp,
        "sample_peak_dbfs": max((p for p in peaks if p is not None), default=None),
        "channel_sample_peaks_dbfs": peaks,
    }


def weigh_channels(mask: int, channels: int) -> list[float]:
    """Return the weight of each channel.

    Parameters
    ----------
    mask : int >= 0
        The places of the channels, as in a WAV file; 0 if they are not declared.
    channels : int > 0
        Their number. If the mask has another number of places, it counts as not declared.
    """
    if mask.bit_count() != channels:
        if channels > len(USUAL_MASKS):
            return [1.0] * channels
        mask = USUAL_MASKS[channels - 1]
    surround = SIDES if channels > len(USUAL_MASKS) else SIDES | BEHIND
    places = [1 << bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    return [
        0.0 if place == LOW_FREQUENCY else SURROUND_WEIGHT if place & surround else 1.0
        for place in places
    ]


def _measure(audio: Audio, weights: list[float]) -> Loudness:
    meter = LoudnessMeter(audio.sr, weights)
    for _, block in iterate_blocks(audio.y):
        meter.feed(block)
    return meter.measure()


def warm_up() -> None:
    """Compile the meter, with a block of silence."""
    import numpy as np

    _measure(Audio(y=np.zeros(4_800, np.float32), sr=48_000), [1.0])
