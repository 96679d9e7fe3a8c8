"""A media file on the local disk, decoded once for all jobs of its line."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from typing import TYPE_CHECKING

from segue.errors import CorruptMedia, MissingInput
from segue.media import riff
from segue.media.audio import Audio, iterate_blocks
from segue.media.ffmpeg import FfmpegResult, run_ffmpeg
from segue.media.truncation import find_truncation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("numpy", "ffmpeg")

# Audio containers, by the names of ffmpeg's demuxers. Playlists, scripts and manifests are left
# out: they name other files, and a catalogue's media must not choose what a worker reads.
CONTAINERS = (
    *("wav", "w64", "aiff", "caf", "au", "flac", "mp3", "ogg", "mov", "aac", "matroska", "asf"),
    *("ape", "wv", "tta", "mpc", "mpc8", "dsf", "ac3", "eac3", "amr"),
)

MAX_DURATION_S = 6 * 3600.0
MAX_DECODED_BYTES = 8 * 2**30  # six hours of stereo at 44.1 kHz, or three at 96 kHz
MAX_CHANNELS = 32
SAMPLE_RATES_HZ = (1_000, 768_000)
# The largest block that ffmpeg may allocate at once; a hostile header could declare a terabyte.
MAX_ALLOCATION_BYTES = 256 * 2**20


class LocalMedia:
    """A local file with the bytes of one generation: the ``Media`` that a worker passes to jobs.

    Parameters
    ----------
    uri : str
        Its URI, for errors.
    generation : int
        The version of the object.
    path : str
        The path of the local file, which is never written to.
    folder : str
        A private folder for the decoded audio; the caller owns it, and deletes it at the end.
    """

    def __init__(self, *, uri: str, generation: int, path: str, folder: str) -> None:
        self.uri = uri
        self.generation = generation
        self.path = path
        # A unique name, so neither the source nor another file is overwritten.
        self._target = os.path.join(folder, f"{uuid.uuid4().hex}.decoded.wav")
        self._lock = threading.Lock()
        self._outcome: Audio | CorruptMedia | None = None

    def audio(self) -> Audio:
        """Decode at the file's own rate and channels.

        ffmpeg decodes the first audio stream to 32-bit floats in a temporary WAV file, which is
        mapped read-only; later calls return the same samples, or raise the same error.

        Returns
        -------
        Audio
            ``y`` has the shape (n,) for mono files and (channels, n) for others. The latter is a
            transposed view of interleaved samples: a channel is not contiguous in memory.

        Raises
        ------
        CorruptMedia
            If the file is empty, truncated, not audio, not finite, or beyond a limit.
        MissingInput
            If the file does not exist or is not readable.
        DiskFull
            If the folder has no room for the decoded audio.
        OutOfMemory, JobCrashed
            If ffmpeg ran out of memory or died.
        ConfigurationError
            If there is no ffmpeg.
        """
        with self._lock:
            if self._outcome is None:
                try:
                    self._outcome = self._decode()
                except BaseException as error:
                    with contextlib.suppress(OSError):
                        os.unlink(self._target)  # frees the space at once
                    if not isinstance(error, CorruptMedia):
                        raise
                    self._outcome = error
            if isinstance(self._outcome, CorruptMedia):
                raise self._outcome
            return self._outcome

    def decode_to_wav(self) -> str:
        """Return the path of the decoded audio, a WAV file of 32-bit floats (RF64 from 4 GiB)."""
        self.audio()
        return self._target

    def _decode(self) -> Audio:
        self._check_readable()
        report = self._run_decoder()
        if report.returncode != 0:
            raise self._corrupt(self._explain_failure(report))
        with open(self._target, "rb") as file:
            header = riff.read_header(file)
        if header is None:  # ffmpeg wrote nothing, not even a header
            raise self._corrupt("it holds no samples")
        size_bytes = os.path.getsize(self._target) - header.offset_bytes
        frames = self._check_plausible(header, size_bytes)
        duration_s = frames / header.sample_rate_hz
        cut = find_truncation(self.path, report.log, duration_s)
        if cut is not None:
            raise self._corrupt(cut)
        y = _map_samples(self._target, header, frames)
        if not _is_finite(y):
            raise self._corrupt("some of its samples are infinite or not a number")
        return Audio(y=y[:, 0] if header.channels == 1 else y.T, sr=header.sample_rate_hz)

    def _run_decoder(self) -> FfmpegResult:
        import ffmpeg

        # "file:" prevents a colon, a percent sign or a leading dash in a name from being special.
        source = ffmpeg.input(
            f"file:{self.path}",
            threads=1,
            protocol_whitelist="file",
            format_whitelist=",".join(CONTAINERS),
            max_alloc=MAX_ALLOCATION_BYTES,
        )
        wav = {"c:a": "pcm_f32le", "f": "wav", "rf64": "auto", "fflags": "+bitexact"}
        sound_only = {"map_metadata": -1, "map_chapters": -1, "vn": None, "sn": None, "dn": None}
        # One second more than is allowed, to detect a file that is too long.
        bounds = {"t": MAX_DURATION_S + 1.0, "fs": MAX_DECODED_BYTES}
        target = source["a:0"].output(f"file:{self._target}", **wav, **sound_only, **bounds)
        return run_ffmpeg(target)

    def _check_readable(self) -> None:
        try:
            with open(self.path, "rb") as file:
                size_bytes = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise MissingInput(
                f"{self.uri}: its local copy cannot be read: {error.strerror}"
            ) from error
        if size_bytes == 0:
            raise self._corrupt("empty file")

    def _check_plausible(self, header: riff.Header, size_bytes: int) -> int:
        """Check the decoded audio against the limits, and return its number of frames."""
        low, high = SAMPLE_RATES_HZ
        if not low <= header.sample_rate_hz <= high:
            raise self._corrupt(
                f"its rate is {header.sample_rate_hz} Hz; the rate must be from {low} to {high} Hz"
            )
        if not 1 <= header.channels <= MAX_CHANNELS:
            raise self._corrupt(f"it has {header.channels} channels; the limit is {MAX_CHANNELS}")
        frames = size_bytes // (4 * header.channels)
        if frames == 0:
            raise self._corrupt("it holds no samples")
        if frames / header.sample_rate_hz > MAX_DURATION_S:
            raise self._corrupt(f"longer than {MAX_DURATION_S:g} s; cut it into parts")
        if size_bytes >= MAX_DECODED_BYTES:
            limit_gib = MAX_DECODED_BYTES / 2**30
            raise self._corrupt(f"decodes to more than {limit_gib:g} GiB; cut it into parts")
        return frames

    def _explain_failure(self, report: FfmpegResult) -> str:
        if "Format not on whitelist" in report.log:
            return "not audio: it looks like a playlist, a script or another kind of file"
        if "moov atom not found" in report.log:
            return "truncated: the index at the end of the file is missing (no moov atom)"
        if "matches no streams" in report.log:
            return "it has no audio stream"
        if "Output file is empty" in report.log:
            return "it holds no samples that can be decoded"
        if "Stream mapping:" in report.log:
            return f"damaged: most of it cannot be decoded: {report.reason}"
        return f"not audio: {report.reason}"

    def _corrupt(self, what: str) -> CorruptMedia:
        return CorruptMedia(f"{self.uri}: {what}")


def _map_samples(path: str, header: riff.Header, frames: int) -> NDArray[np.float32]:
    import numpy as np

    shape = (frames, header.channels)
    mapped = np.memmap(path, np.float32, mode="r", offset=header.offset_bytes, shape=shape)
    # Jobs get a plain array: reductions of a memmap return memmaps again, and are slower.
    return np.asarray(mapped)


def _is_finite(y: NDArray[np.float32]) -> bool:
    import numpy as np

    # Minimum and maximum propagate NaN and infinity, without an array of flags.
    extremes = [(block.min(), block.max()) for _, block in iterate_blocks(y.reshape(-1))]
    return bool(np.isfinite(extremes).all())
