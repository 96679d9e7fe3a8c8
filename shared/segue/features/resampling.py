"""Conversion of media files to one rate and number of channels, the input of most other jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.errors import ConfigurationError
from segue.media.audio import Audio, Media, iterate_blocks
from segue.media.memory import format_duration, require_memory
from segue.media.samples import LARGE_BYTES, SampleBuffer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("numpy", "soxr")

# The channels of a file by their number, in the order of WAVEFORMATEXTENSIBLE: left, right, centre,
# low-frequency effects (x), and the rear channels left (l), right (r) and centre (c).
LAYOUTS = {3: "LRC", 4: "LRlr", 5: "LRClr", 6: "LRCxlr", 7: "LRCxclr", 8: "LRCxlrlr"}
# ITU-R BS.775-3, table 2: the gain of a channel in the left and the right of two channels.
GAINS = {"L": (1, 0), "R": (0, 1), "l": (0.5**0.5, 0), "r": (0, 0.5**0.5), "x": (0, 0)}
CENTRE = (0.5**0.5, 0.5**0.5)
# At most, of the result as FLAC: noise does not shrink, and the buffer grows by an eighth. Samples
# that are few enough are in memory twice, too, before and after they were encoded.
BYTES_PER_SAMPLE = 2.3


def downsample(media: Media, *, sample_rate_hz: int = 22050, channels: int = 1) -> Audio:
    """Convert a media file to a given rate and number of channels.

    Channels are mixed first: one channel is the mean of all; mono becomes two copies; three to
    eight channels are mixed to two after ITU-R BS.775-3, scaled to prevent clipping; more become
    their mean twice. Then soxr resamples at its quality HQ: flat to 0.91 of the new band, with more
    than 100 dB of attenuation above the band. Files below the rate are upsampled.

    Parameters
    ----------
    media : Media
        The file; it is decoded through `media.audio`.
    sample_rate_hz : int > 0
        Sampling rate of the result.
    channels : {1, 2}
        Number of channels of the result.

    Returns
    -------
    Audio
        ``y`` has the shape (n,) for one channel and (2, n) for two, where n is the duration times
        the rate, rounded, and at least 1. It is read-only, and mapped from a temporary file if it
        is long. Peaks may slightly exceed 1.0: filters raise some.

    Raises
    ------
    TooLarge
        If the process's memory bound has no room for the result as FLAC.
    ConfigurationError
        If a parameter is out of its range.
    CorruptMedia
        If the file cannot be decoded.
    """
    import soxr

    if channels not in (1, 2):
        raise ConfigurationError(f"downsample: channels is {channels}: it must be 1 or 2")
    if not 1_000 <= sample_rate_hz <= 655_350:
        raise ConfigurationError(
            f"downsample: sample_rate_hz is {sample_rate_hz}: it must be from 1000 to 655350"
        )
    audio = media.audio()
    frames = audio.y.shape[-1]
    length = max(1, (2 * frames * sample_rate_hz + audio.sr) // (2 * audio.sr))
    require_memory(
        BYTES_PER_SAMPLE * channels * length + 2 * min(4 * channels * length, LARGE_BYTES),
        f"downsample of {format_duration(audio.duration_s)}",
    )
    samples = SampleBuffer(channels, length)
    stream = soxr.ResampleStream(audio.sr, sample_rate_hz, channels, dtype="float32", quality="HQ")
    filled = 0
    for start, native in iterate_blocks(audio.y):
        block = _mix(native, channels)
        if audio.sr != sample_rate_hz:
            last = start + native.shape[-1] == frames
            block = stream.resample_chunk(block, last=last)
        block = block[: length - filled]
        samples.write(filled, block.T)
        filled += len(block)
    return Audio(y=samples.finish(), sr=sample_rate_hz)


def _mix(y: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Mix a block [shape=(m,) or (any, m)] to (m,) for one channel, or to (m, 2) for two."""
    import numpy as np

    present = 1 if y.ndim == 1 else len(y)
    if channels == 1:
        return np.ascontiguousarray(Audio(y=y, sr=1).mono().y)
    if present == channels:
        return np.ascontiguousarray(y.T)
    if present in LAYOUTS:
        gains = np.array([GAINS.get(place, CENTRE) for place in LAYOUTS[present]], np.float32)
        mixed: NDArray[np.float32] = y.T @ (gains / gains.sum(axis=0))
        return mixed
    return np.repeat(Audio(y=y, sr=1).mono().y[:, np.newaxis], 2, axis=1)


def require_rate(audio: Audio, sample_rate_hz: int, job: str) -> None:
    """Raise ConfigurationError if the audio that a job gets is at another rate than its model's."""
    if audio.sr != sample_rate_hz:
        raise ConfigurationError(
            f"{job}: the audio is at {audio.sr} Hz: it must be at {sample_rate_hz}; use "
            "segue.features.resampling:downsample"
        )
