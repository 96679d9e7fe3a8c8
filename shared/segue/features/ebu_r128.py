"""Perceived loudness after EBU R 128.

Integrated loudness is the power of all channels after a filter that models the head and the ear (K
weighting), in blocks of 400 ms every 100 ms. Blocks below -70 LUFS are ignored, and so are those
more than 10 LU below the mean of the rest: pauses do not make a piece quieter [1]_. The loudness
range is the distance between the 10th and the 95th percentile of loudness over 3 s, gated at -70
LUFS and 20 LU below the mean [2]_. The true peak is that of the signal between its samples,
estimated by oversampling to 192 kHz [1]_. The filter ``ebur128`` of ffmpeg measures all of them.

K weighting is specified at 48 kHz. ffmpeg's equals it at 44.1 kHz, too; at other rates it deviates,
by 0.4 LU at 8 kHz and without bound below 4 kHz, or counts what nobody hears. So audio of any other
rate is resampled to 48 kHz first, except for its peaks.

Up to eight channels are weighed by their places as ffmpeg knows them. More are weighed after table
4 of [1]_: 0 for low-frequency effects, 1.41 for the side channels, 1 for all others, and 1 for all
channels of a file that does not declare their places, such as Ambisonics.

.. [1] ITU-R BS.1770-5, "Algorithms to measure audio programme loudness and true-peak audio level."
.. [2] EBU Tech 3342, "Loudness range: a measure to supplement EBU R 128 loudness normalisation."
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from segue.errors import CorruptMedia
from segue.media import riff
from segue.media.audio import Audio, Media, iterate_blocks
from segue.media.ffmpeg import run_ffmpeg

if TYPE_CHECKING:
    import numpy as np

PRELOAD = ("numpy", "ffmpeg")

# If nothing is louder, nothing passes the gate, and ffmpeg reports the gate itself.
ABSOLUTE_GATE_LUFS = -70.0
# ffmpeg counts all louder blocks as this.
LOUDEST_BLOCK_LUFS = 10.0
# A loudness range is computed from windows of 3 s, and needs at least two of them.
SHORTEST_FOR_RANGE_S = 4.0
FILTER_RATES_HZ = (44_100, 48_000)
# The oversampling filter returns its last samples only if more follow.
PADDING_FRAMES = 512

MAX_KNOWN_CHANNELS = 8
# The bits of a WAV file's channel mask, and channels of ffmpeg that have the weights 0, 1.41 and 1.
LOW_FREQUENCY, SIDES = 1 << 3, (1 << 9, 1 << 10)
FIRST_UNPLACED = 64

# At most: the gain of K weighting in dB, and of a block over the power of its loudest 100 ms.
K_GAIN_DB, GRID_GAIN_DB = 4.1, 1.0
SIDE_WEIGHT = 1.41

_TRUE_PEAK = re.compile(r"True peak:\s+Peak:\s+(-?inf|-?[\d.]+) dBFS")


def loudness(media: Media) -> dict[str, Any]:
    """Measure the loudness of a media file with its own channels.

    Parameters
    ----------
    media : Media
        The file. It is not decoded again if another job has decoded it.

    Returns
    -------
    dict
        - ``integrated_lufs`` : float, or None if no block of 400 ms is louder than -70 LUFS, as in
          silence, or in less than 400 ms
        - ``range_lu`` : float, or None if ``integrated_lufs`` is None or the file is shorter than
          4 s
        - ``true_peak_dbtp`` : float with a resolution of 0.1, but at least ``sample_peak_dbfs``, or
          None for digital silence
        - ``sample_peak_dbfs`` : float, or None for digital silence
        - ``channel_sample_peaks_dbfs`` : list of the same, one for each channel

        Mono counts as one loudspeaker, so it measures 3 LU less than the same signal on two.
        Samples above full scale, in a file of floats, are measured as they are. If a block is
        louder than +10 LUFS, the gate at -70 is higher by as much.
    """
    audio = media.audio()
    peaks = _measure_sample_peaks(audio)
    halvings = _count_halvings(audio, float(peaks.max()))
    log = _run_filters(media, halvings)
    integrated_lufs = _find_last_value(log, "I")
    audible = integrated_lufs > ABSOLUTE_GATE_LUFS
    long_enough = audio.duration_s >= SHORTEST_FOR_RANGE_S
    gain_db = 20 * math.log10(2) * halvings
    levels = [round(20 * math.log10(peak), 3) if peak > 0 else None for peak in peaks.tolist()]
    sample_peak = max((level for level in levels if level is not None), default=None)
    true_peak = float(_TRUE_PEAK.findall(log)[-1])
    return {
        "integrated_lufs": round(integrated_lufs + gain_db, 2) if audible else None,
        "range_lu": round(_find_last_value(log, "LRA"), 2) if audible and long_enough else None,
        "true_peak_dbtp": None if sample_peak is None else max(true_peak, sample_peak),
        "sample_peak_dbfs": sample_peak,
        "channel_sample_peaks_dbfs": levels,
    }


def _run_filters(media: Media, halvings: int) -> str:
    import ffmpeg

    path = media.decode_to_wav()
    audio = media.audio()
    source = ffmpeg.input(f"file:{path}", threads=1, protocol_whitelist="file")
    channels = source["a:0"]
    if audio.channels > MAX_KNOWN_CHANNELS:
        channels = channels.filter(
            "channelmap",
            map="|".join(map(str, range(audio.channels))),
            channel_layout="+".join(_name_channels(path, audio.channels)),
        )
    split = channels.asplit()
    weighed = split[0]
    if halvings:
        weighed = weighed.filter("volume", volume=2.0**-halvings, precision="double")
    if audio.sr not in FILTER_RATES_HZ:
        weighed = weighed.filter("aresample", 48_000, osf="dbl", filter_size=128)
    # The summary is rounded to 0.1 LU; the running values are not, and the last one is that of the
    # whole file. The filter's own log lines get a level that is not logged.
    weighed = weighed.filter("ebur128", metadata=1, framelog="verbose")
    for key in ("I", "LRA"):
        weighed = weighed.filter("ametadata", mode="print", key=f"lavfi.r128.{key}")
    peaks = split[1].filter("apad", pad_len=PADDING_FRAMES)
    peaks = peaks.filter("ebur128", peak="true", framelog="verbose")
    nowhere = {"f": "null", "c:a": "pcm_f64le"}
    outputs = [stream.output("-", **nowhere) for stream in (weighed, peaks)]
    report = run_ffmpeg(ffmpeg.merge_outputs(*outputs))
    if report.returncode != 0:
        raise CorruptMedia(f"{media.uri}: its loudness cannot be measured: {report.reason}")
    return report.log


def _name_channels(path: str, channels: int) -> list[str]:
    """Return a channel of ffmpeg for each channel of a WAV file, by its weight."""
    with open(path, "rb") as file:
        header = riff.read_header(file)
    mask = header.channel_mask if header is not None else 0
    places = [1 << bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    if len(places) != channels:
        places = [0] * channels
    names = {LOW_FREQUENCY: "LFE", **dict(zip(SIDES, ("SL", "SR"), strict=True))}
    return [names.get(p, f"USR{FIRST_UNPLACED + i}") for i, p in enumerate(places)]


def _find_last_value(log: str, key: str) -> float:
    values = re.findall(rf"lavfi\.r128\.{key}=(-?[\d.]+|-?inf|nan)\s", log)
    # Audio shorter than one step of 100 ms has no value.
    return float(values[-1]) if values else ABSOLUTE_GATE_LUFS


def _measure_sample_peaks(audio: Audio) -> np.ndarray:
    import numpy as np

    # Channel by channel: reducing along an axis of interleaved samples is many times slower.
    peaks = np.zeros(audio.channels)
    for _, block in iterate_blocks(audio.y):
        highest = [max(float(y.max()), -float(y.min())) for y in np.atleast_2d(block)]
        peaks = np.maximum(peaks, highest)
    return peaks


def _count_halvings(audio: Audio, peak: float) -> int:
    """Return how often to halve the samples, so that no block is too loud for ffmpeg to count."""
    import numpy as np

    weight = audio.channels * (1.0 if audio.channels <= 2 else SIDE_WEIGHT)
    offset_db = -0.691 + K_GAIN_DB + GRID_GAIN_DB + 10 * math.log10(weight)
    limit = 10 ** ((LOUDEST_BLOCK_LUFS - offset_db) / 10)
    if peak**2 <= limit:
        return 0
    steps = iterate_blocks(audio.y, max(1, audio.sr // 10))
    loudest = max(float(np.square(step, dtype=np.float64).mean()) for _, step in steps)
    return max(0, math.ceil(math.log2(loudest / limit) / 2))
