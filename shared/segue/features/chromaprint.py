"""The acoustic fingerprint of a recording, by which AcoustID recognises it.

Chromaprint sums the power of each twelfth of an octave, looks at 2.3 s of that at a time through 16
patterns, and keeps two bits of each: 32 bits for each eighth of a second [1]_ [2]_. Copies of a
recording have almost the same bits, whatever their format, rate and loudness; another recording of
the same piece has not. The database AcoustID, and through it MusicBrainz, is asked with the
fingerprint and the duration [3]_.

The fingerprint is, to the bit, that of Chromaprint's own program fpcalc for a file that both decode
to the same samples. It depends neither on the version of ffmpeg nor on how that was built: ffmpeg
only resamples, with the short filter that it has kept for Chromaprint. Its own muxer of that name
is absent from many builds, such as those for macOS.

.. [1] Lalinský, L. "How does Chromaprint work?" (2011). The patterns and their limits are those of
   its algorithm 1, ``CHROMAPRINT_ALGORITHM_TEST2``.
.. [2] Jang, D., Yoo, C. D., Lee, S., Kim, S. and Kalker, T. "Pairwise boosted audio fingerprint."
   IEEE Transactions on Information Forensics and Security 4.4 (2009): 995-1004.
.. [3] https://acoustid.org/webservice
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from msgspec import Meta

from segue.errors import CorruptMedia
from segue.media.audio import Media
from segue.media.ffmpeg import run_ffmpeg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("numpy", "scipy.fft", "ffmpeg")

ALGORITHM = 1
LENGTH_S = 120.0
SAMPLE_RATE_HZ = 11_025
# What fpcalc asks of ffmpeg; with another filter, some bits are others.
RESAMPLER = {
    "resampler": "swr",
    "filter_size": 16,
    "phase_shift": 8,
    "linear_interp": 1,
    "cutoff": 0.8,
}
# The places of more channels are not known to all versions of ffmpeg.
MAX_KNOWN_CHANNELS = 8
FIRST_UNPLACED = 64

N_FFT = 4096
HOP_LENGTH = 1365
BLOCK_FRAMES = 64
LOWEST_HZ, HIGHEST_HZ = 28, 3520
A0_HZ = 27.5  # the band of A is the first
BANDS = 12
SMOOTHING = (0.25, 0.75, 1.0, 0.75, 0.25)
# With less power, a moment counts as silent.
LEAST_NORM = 0.01
PATTERN_FRAMES = 16

# Each pattern covers some bands and frames, and compares a part of it with the rest: the later or
# upper half, the middle third, or two opposite quarters. Shape, first band, bands, frames, and the
# three limits between four answers.
WHOLE, BAND_HALVES, TIME_HALVES, QUARTERS, BAND_THIRDS, TIME_THIRDS = range(6)
PATTERNS = (
    (WHOLE, 4, 3, 15, (1.98215, 2.35817, 2.63523)),
    (BAND_THIRDS, 4, 6, 15, (-1.03809, -0.651211, -0.282167)),
    (BAND_HALVES, 0, 4, 16, (-0.298702, 0.119262, 0.558497)),
    (QUARTERS, 8, 2, 12, (-0.105439, 0.0153946, 0.135898)),
    (QUARTERS, 4, 4, 8, (-0.142891, 0.0258736, 0.200632)),
    (BAND_THIRDS, 0, 3, 5, (-0.826319, -0.590612, -0.368214)),
    (BAND_HALVES, 2, 2, 9, (-0.557409, -0.233035, 0.0534525)),
    (TIME_HALVES, 7, 3, 4, (-0.0646826, 0.00620476, 0.0784847)),
    (TIME_HALVES, 6, 2, 16, (-0.192387, -0.029699, 0.215855)),
    (TIME_HALVES, 1, 3, 2, (-0.0397818, -0.00568076, 0.0292026)),
    (TIME_THIRDS, 10, 1, 15, (-0.53823, -0.369934, -0.190235)),
    (QUARTERS, 6, 2, 10, (-0.124877, 0.0296483, 0.139239)),
    (TIME_HALVES, 1, 1, 14, (-0.101475, 0.0225617, 0.231971)),
    (QUARTERS, 5, 6, 4, (-0.0799915, -0.00729616, 0.063262)),
    (BAND_HALVES, 9, 2, 12, (-0.272556, 0.019424, 0.302559)),
    (QUARTERS, 4, 2, 14, (-0.164292, -0.0321188, 0.0846339)),
)
# Neighbouring answers differ in one bit.
GRAY_CODE = (0, 1, 3, 2)


class Fingerprint(TypedDict):
    """What AcoustID is asked with."""

    fingerprint: Annotated[
        str | None, Meta(description="compressed, in the base64 of URLs, as AcoustID takes it")
    ]
    duration_s: Annotated[
        float, Meta(description="of the whole file; AcoustID takes it without its fraction")
    ]
    algorithm: Annotated[int, Meta(description="the number of Chromaprint's algorithm, 1")]
    reason: Annotated[str | None, Meta(description="why there is no fingerprint")]


def fingerprint(media: Media) -> Fingerprint:
    """Compute the fingerprint by which AcoustID knows a recording, from its first 120 s.

    Parameters
    ----------
    media : Media
        The file. It is not decoded again if another job has decoded it.

    Returns
    -------
    Fingerprint
        There is none, for a reason, if the file is shorter than 2.73 s, or silent: for silence
        fpcalc prints the same one, whatever the recording.

    Raises
    ------
    CorruptMedia
        If the file cannot be decoded.
    """
    duration_s = media.audio().duration_s
    chroma = _compute_chroma(_resample(media))
    reason = None
    if len(chroma) < PATTERN_FRAMES:
        reason = "shorter than 2.73 s"
    elif not chroma.any():
        reason = "silent"
    return {
        "fingerprint": None if reason else _pack(_compare_patterns(chroma)),
        "duration_s": round(duration_s, 3),
        "algorithm": ALGORITHM,
        "reason": reason,
    }


def _resample(media: Media) -> NDArray[np.int16]:
    """Return the samples that are used, mono at 11,025 Hz."""
    import ffmpeg
    import numpy as np

    path = media.decode_to_wav()
    # Beside the decoded samples, in a folder that is deleted with them.
    target = f"{path}.s16"
    source = ffmpeg.input(f"file:{path}", threads=1, protocol_whitelist="file", t=LENGTH_S)
    sound = source["a:0"]
    channels = media.audio().channels
    if channels > MAX_KNOWN_CHANNELS:
        sound = _mix_to_mean(sound, channels)
    sound = sound.filter("aresample", SAMPLE_RATE_HZ, ochl="mono", osf="s16", **RESAMPLER)
    try:
        report = run_ffmpeg(sound.output(f"file:{target}", **{"f": "s16le", "c:a": "pcm_s16le"}))
        if report.returncode != 0:
            raise CorruptMedia(f"{media.uri}: it cannot be resampled: {report.reason}")
        return np.fromfile(target, "<i2")
    finally:
        if os.path.exists(target):
            os.unlink(target)


def _mix_to_mean(sound: Any, channels: int) -> Any:
    """Mix channels to their mean, whatever their places are."""
    names = "+".join(f"USR{FIRST_UNPLACED + i}" for i in range(channels))
    numbers = "|".join(map(str, range(channels)))
    mean = "+".join(f"{1 / channels:.9f}*c{i}" for i in range(channels))
    placed = sound.filter("channelmap", map=numbers, channel_layout=names)
    return placed.filter("pan", args=f"mono|c0={mean}")


def _compute_chroma(samples: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return the power in each band [shape=(frames, 12)], smoothed, of norm 1 or all zeros."""
    import numpy as np
    import scipy.fft

    first, last = (round(hz * N_FFT / SAMPLE_RATE_HZ) for hz in (LOWEST_HZ, HIGHEST_HZ))
    octaves = np.log2(np.arange(first, last) * SAMPLE_RATE_HZ / N_FFT / A0_HZ)
    bands = (octaves % 1.0 * BANDS).astype(np.intp)
    members = [first + np.flatnonzero(bands == band) for band in range(BANDS)]
    window = np.hamming(N_FFT) / 32767
    frames = max(0, 1 + (len(samples) - N_FFT) // HOP_LENGTH)
    power = np.empty((frames, BANDS))
    for start in range(0, frames, BLOCK_FRAMES):
        end = min(frames, start + BLOCK_FRAMES)
        block = samples[start * HOP_LENGTH : (end - 1) * HOP_LENGTH + N_FFT].astype(np.float64)
        framed = np.lib.stride_tricks.sliding_window_view(block, N_FFT)[::HOP_LENGTH]
        D = scipy.fft.rfft(framed * window, axis=1, overwrite_x=True)
        for band, bins in enumerate(members):
            inside = D[:, bins]
            power[start:end, band] = (inside.real**2 + inside.imag**2).sum(axis=1)
    count = max(0, frames - len(SMOOTHING) + 1)
    smooth = np.zeros((count, BANDS))
    for i, weight in enumerate(SMOOTHING):
        smooth += weight * power[i : i + count]
    norms = np.sqrt(np.square(smooth).sum(axis=1, keepdims=True))
    return np.where(norms < LEAST_NORM, 0.0, smooth / np.maximum(norms, LEAST_NORM))


def _compare_patterns(chroma: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Return 32 bits for each frame with which a pattern can begin."""
    import numpy as np

    values = np.zeros(len(chroma) - PATTERN_FRAMES + 1, np.uint32)
    totals = np.pad(chroma.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))

    def measure(start: int, end: int, low: int, high: int) -> Any:
        """Sum the frames from `start` on in the bands from `low` on, at each position."""
        rows = totals[:, high] - totals[:, low]
        return rows[end : end + len(values)] - rows[start : start + len(values)]

    for shape, low, height, frames, limits in PATTERNS:
        sums: list[Any] = [0.0, 0.0]
        for is_part, area in _cut(shape, low, low + height, frames):
            sums[is_part] = sums[is_part] + measure(*area)
        rest, part = sums
        answers = np.searchsorted(limits, np.log((1.0 + part) / (1.0 + rest)), "right")
        values = values << 2 | np.array(GRAY_CODE, np.uint32)[answers]
    return values


def _cut(
    shape: int, low: int, high: int, frames: int
) -> list[tuple[bool, tuple[int, int, int, int]]]:
    """Return the areas of a pattern, and whether each is of its part or of the rest.

    An area goes from a frame to a frame, and from a band to a band.
    """
    middle, centre = frames // 2, (low + high) // 2
    if shape == BAND_HALVES:
        return [(True, (0, frames, centre, high)), (False, (0, frames, low, centre))]
    if shape == TIME_HALVES:
        return [(True, (middle, frames, low, high)), (False, (0, middle, low, high))]
    if shape == QUARTERS:
        return [
            (True, (0, middle, centre, high)),
            (True, (middle, frames, low, centre)),
            (False, (0, middle, low, centre)),
            (False, (middle, frames, centre, high)),
        ]
    if shape == BAND_THIRDS:
        third = (high - low) // 3
        edges = (low, low + third, low + 2 * third, high)
        return [(i == 1, (0, frames, edges[i], edges[i + 1])) for i in range(3)]
    if shape == TIME_THIRDS:
        third = frames // 3
        edges = (0, third, 2 * third, frames)
        return [(i == 1, (edges[i], edges[i + 1], low, high)) for i in range(3)]
    return [(True, (0, frames, low, high))]


def _pack(values: NDArray[np.uint32]) -> str:
    """Return values in Chromaprint's compressed form.

    Of each value, only the bits that differ from the last one's are kept, as distances in three
    bits; those of seven and more continue in five bits at the end.
    """
    short: list[int] = []
    long: list[int] = []
    last = 0
    for value in values.tolist():
        changed = value ^ last
        last = value
        while changed:
            distance = (changed & -changed).bit_length()
            changed >>= distance
            short.append(min(distance, 7))
            if distance >= 7:
                long.append(distance - 7)
        short.append(0)
    header = bytes([ALGORITHM]) + len(values).to_bytes(3, "big")
    packed = header + _pack_bits(short, 3) + _pack_bits(long, 5)
    return base64.urlsafe_b64encode(packed).decode("ascii").rstrip("=")


def _pack_bits(numbers: list[int], width: int) -> bytes:
    import numpy as np

    bits = np.array(numbers, np.uint8)[:, np.newaxis] >> np.arange(width, dtype=np.uint8) & 1
    return np.packbits(bits.astype(bool).ravel(), bitorder="little").tobytes()
