"""Perceived loudness after EBU R 128.

Integrated loudness is the power of all channels after a filter that models the head and the ear (K
weighting), in blocks of 400 ms every 100 ms. Blocks below -70 LUFS are ignored, and so are those
more than 10 LU below the mean of the rest: pauses do not make a piece quieter [1]_. The loudness
range is the distance between the 10th and the 95th percentile of loudness over 3 s, gated at -70
LUFS and 20 LU below the mean [2]_. The true peak is that of the signal between its samples,
estimated by oversampling to 192 kHz [1]_. The filter ``ebur128`` of ffmpeg measures all of them.

.. [1] ITU-R BS.1770-4, "Algorithms to measure audio programme loudness and true-peak audio level."
.. [2] EBU Tech 3342, "Loudness range: a measure to supplement EBU R 128 loudness normalisation."
"""

from __future__ import annotations

import re
from typing import Any

from segue.errors import CorruptMedia
from segue.media.audio import Media, iterate_blocks
from segue.media.ffmpeg import run_ffmpeg

PRELOAD = ("numpy", "ffmpeg")

# If nothing is louder, nothing passes the gate, and ffmpeg reports the gate itself.
ABSOLUTE_GATE_LUFS = -70.0
# A loudness range is computed from windows of 3 s, and needs at least two of them.
SHORTEST_FOR_RANGE_S = 4.0

_TRUE_PEAK = re.compile(r"True peak:\s+Peak:\s+(-?inf|-?[\d.]+) dBFS")


def loudness(media: Media) -> dict[str, Any]:
    """Measure the loudness of a media file at its own rate and with its own channels.

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
        - ``true_peak_dbtp`` : float with a resolution of 0.1, or None for digital silence
        - ``sample_peak_dbfs`` : float, or None for digital silence
        - ``channel_sample_peaks_dbfs`` : list of the same, one for each channel

        Mono counts as one loudspeaker, so it measures 3 LU less than the same signal on two.
    """
    audio = media.audio()
    log = _run_filter(media)
    integrated_lufs = _find_last_value(log, "I")
    audible = integrated_lufs > ABSOLUTE_GATE_LUFS
    long_enough = audio.duration_s >= SHORTEST_FOR_RANGE_S
    true_peak = _TRUE_PEAK.findall(log)[-1]
    peaks = _measure_sample_peaks_dbfs(media)
    return {
        "integrated_lufs": round(integrated_lufs, 2) if audible else None,
        "range_lu": round(_find_last_value(log, "LRA"), 2) if audible and long_enough else None,
        "true_peak_dbtp": None if "inf" in true_peak else float(true_peak),
        "sample_peak_dbfs": max((peak for peak in peaks if peak is not None), default=None),
        "channel_sample_peaks_dbfs": peaks,
    }


def _run_filter(media: Media) -> str:
    import ffmpeg

    source = ffmpeg.input(f"file:{media.decode_to_wav()}", threads=1, protocol_whitelist="file")
    # The summary is rounded to 0.1 LU; the running values are not, and the last one is that of the
    # whole file. The filter's own log lines get a level that is not logged.
    measured = source["a:0"].filter("ebur128", peak="true", metadata=1, framelog="verbose")
    for key in ("I", "LRA"):
        measured = measured.filter("ametadata", mode="print", key=f"lavfi.r128.{key}")
    report = run_ffmpeg(measured.output("-", f="null", **{"c:a": "pcm_f64le"}))
    if report.returncode != 0:
        raise CorruptMedia(f"{media.uri}: its loudness cannot be measured: {report.reason}")
    return report.log


def _find_last_value(log: str, key: str) -> float:
    values = re.findall(rf"lavfi\.r128\.{key}=(-?[\d.]+|-?inf|nan)\s", log)
    # Audio shorter than one step of 100 ms has no value.
    return float(values[-1]) if values else ABSOLUTE_GATE_LUFS


def _measure_sample_peaks_dbfs(media: Media) -> list[float | None]:
    import numpy as np

    # Channel by channel: reducing along an axis of interleaved samples is many times slower.
    peaks = np.zeros(media.audio().channels)
    for _, block in iterate_blocks(media.audio().y):
        highest = [max(float(y.max()), -float(y.min())) for y in np.atleast_2d(block)]
        peaks = np.maximum(peaks, highest)
    return [round(20 * float(np.log10(peak)), 3) if peak > 0 else None for peak in peaks.tolist()]
