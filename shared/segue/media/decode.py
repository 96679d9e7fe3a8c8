"""A media file on the local disk, decoded once for all jobs of its line."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import uuid
from typing import TYPE_CHECKING

from segue.errors import (
    ConfigurationError,
    CorruptMedia,
    DiskFull,
    NotApplicable,
    OutOfMemory,
    TooLarge,
)
from segue.media import riff
from segue.media.audio import Audio, iterate_blocks
from segue.media.containers import Bytes, find_big_endian_format, find_wrong_size
from segue.media.content_type import describe_types, find_types_in, has_sound
from segue.media.ffmpeg import FfmpegResult, run_ffmpeg
from segue.media.film import iterate_key_frames
from segue.media.formats import CONTAINERS, DECODERS
from segue.media.image import decode_image
from segue.media.memory import has_ample_memory
from segue.media.probe import MediaInfo, probe_file
from segue.media.source import open_source
from segue.media.truncation import find_truncation, parse_log_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("numpy", "ffmpeg")

MAX_DURATION_S = 6 * 3600.0
MAX_DECODED_GIB = "SEGUE_MAX_DECODED_GIB"
DEFAULT_MAX_DECODED_GIB = 8.0  # six hours of stereo at 48 kHz, or three at 96 kHz
MAX_CHANNELS = 32
# Versions of ffmpeg guess the places of more channels differently, if a file does not declare them.
MAX_GUESSED_CHANNELS = 8
# One-bit audio (DSD) becomes an eighth of its rate: at 1,024 times that of a CD, 5.6 MHz.
SAMPLE_RATES_HZ = (1_000, 6_144_000)
# Samples beyond full scale by 40 dB are not audio in [-1, 1] that is too loud, but in another unit.
MAX_PEAK = 100.0
# The largest block that ffmpeg may allocate at once; a hostile header could declare a terabyte.
MAX_ALLOCATION_BYTES = 256 * 2**20
# What is left free for others where the decoded audio is written.
MAX_RESERVE_BYTES = 64 * 2**20
# RIFX files, by format tag and bits: ffmpeg takes their samples for little-endian ones.
BIG_ENDIAN_DECODERS = {
    **{(riff.PCM, bits): f"pcm_s{bits}be" for bits in (16, 24, 32)},
    **{(riff.IEEE_FLOAT, bits): f"pcm_f{bits}be" for bits in (32, 64)},
    (riff.PCM, 8): "pcm_u8",
    (riff.ALAW, 8): "pcm_alaw",
    (riff.MULAW, 8): "pcm_mulaw",
}


# The last one in the log is that of the sound; those of films and pictures come first.
_CODEC_LEFT_OUT = re.compile(r"\bCodec \((\w+)\) not on whitelist")


class LocalMedia:
    """A local file with the bytes of one version: the ``Media`` that a worker passes to jobs.

    Parameters
    ----------
    uri : str
        Its URI, for errors.
    version : str
        The version of its content.
    path : str
        The path of the local file, which is never written to.
    folder : str
        A private folder for the decoded audio; the caller owns it, and deletes it at the end.
    """

    def __init__(self, *, uri: str, version: str, path: str, folder: str) -> None:
        self.uri = uri
        self.version = version
        self.path = path
        # A unique name, so neither the source nor another file is overwritten.
        self._target = os.path.join(folder, f"{uuid.uuid4().hex}.decoded.wav")
        self._types: frozenset[str] = frozenset()  # as its bytes prove, once they are read
        self._lock = threading.Lock()
        self._outcome: Audio | CorruptMedia | TooLarge | NotApplicable | None = None

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
        NotApplicable
            If its bytes prove that it is something without sound: an image, a film without an
            audio stream, a document.
        CorruptMedia
            If the file is empty, truncated, not audio, not finite, or not what its header says.
        TooLarge
            If it is longer than six hours, decodes to more than ``SEGUE_MAX_DECODED_GIB``, or to
            more than the folder's whole disk.
        MissingInput
            If the file does not exist or is not readable.
        DiskFull
            If the folder has no room for the decoded audio now.
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
                    if not isinstance(error, CorruptMedia | TooLarge | NotApplicable):
                        raise
                    self._outcome = error
            if not isinstance(self._outcome, Audio):
                raise self._outcome
            return self._outcome

    def decode_to_wav(self) -> str:
        """Return the path of the decoded audio, a WAV file of 32-bit floats (RF64 from 4 GiB)."""
        self.audio()
        return self._target

    def image(self) -> NDArray[np.uint8]:
        """Decode an image to RGB; each call decodes it again."""
        return decode_image(self.path, self.uri)

    def frames(self, *, min_gap_s: float = 0.0) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Decode the key frames of a film, one at a time."""
        if not min_gap_s >= 0:
            raise ValueError(f"min_gap_s is {min_gap_s}; it must be a number from 0")
        return iterate_key_frames(self.path, self.uri, min_gap_s=min_gap_s)

    def probe(self) -> MediaInfo:
        """Describe the file without decoding it."""
        return probe_file(self.path, self.uri)

    def _decode(self) -> Audio:
        try:
            return self._decode_sound()
        except CorruptMedia as error:
            if not self._types or has_sound(self._types):
                raise
            raise self._decline() from error

    def _decode_sound(self) -> Audio:
        decoder = self._check_source()
        limit, room = _read_limit(), _find_room(os.path.dirname(self._target))
        if room <= 0:
            raise DiskFull(f"{self.uri}: no space is free for temporary files; free space there")
        report = self._run_decoder(decoder, min(limit, room))
        if report.returncode != 0:
            raise self._corrupt(self._explain_failure(report))
        with open(self._target, "rb") as file:
            header = riff.read_header(file)
        if header is None:  # ffmpeg wrote nothing, not even a header
            raise self._corrupt("it holds no samples")
        self._check_header(header)
        written = os.path.getsize(self._target)
        frames = (written - header.offset_bytes) // (4 * header.channels)
        duration_s = frames / header.sample_rate_hz
        if written >= limit:
            raise TooLarge(
                f"{self.uri}: decodes to more than {limit / 2**30:.3g} GiB; cut it into parts, or "
                f"raise {MAX_DECODED_GIB}"
            )
        if written >= room:
            raise self._explain_no_room(written, room, duration_s, report.log)
        if frames == 0:
            raise self._corrupt("it holds no samples")
        if duration_s > MAX_DURATION_S:
            raise TooLarge(
                f"{self.uri}: longer than {MAX_DURATION_S / 3600:g} hours; cut it into parts"
            )
        cut = find_truncation(self.path, report.log, duration_s)
        if cut is not None:
            raise self._corrupt(cut)
        y = _map_samples(self._target, header, frames)
        self._check_range(y)
        return Audio(y=y[:, 0] if header.channels == 1 else y.T, sr=header.sample_rate_hz)

    def _run_decoder(self, decoder: str | None, max_bytes: int) -> FfmpegResult:
        import ffmpeg

        # "file:" prevents a colon, a percent sign or a leading dash in a name from being special.
        source = ffmpeg.input(
            f"file:{self.path}",
            threads=1,
            protocol_whitelist="file",
            format_whitelist=",".join(CONTAINERS),
            codec_whitelist=",".join(DECODERS),
            max_alloc=MAX_ALLOCATION_BYTES,
            err_detect="crccheck",  # else damaged blocks are decoded to noise
            guess_layout_max=MAX_GUESSED_CHANNELS,
            **({"c:a": decoder} if decoder else {}),
        )
        wav = {"c:a": "pcm_f32le", "f": "wav", "rf64": "auto", "fflags": "+bitexact"}
        sound_only = {"map_metadata": -1, "map_chapters": -1, "vn": None, "sn": None, "dn": None}
        # One second more than is allowed, to detect a file that is too long.
        bounds = {"t": MAX_DURATION_S + 1.0, "fs": max_bytes}
        target = source["a:0"].output(f"file:{self._target}", **wav, **sound_only, **bounds)
        try:
            return run_ffmpeg(target)
        except OutOfMemory as error:
            if not has_ample_memory():
                raise
            raise self._corrupt(
                f"damaged: it declares blocks or tables that no sound needs ({error})"
            ) from error

    def _check_source(self) -> str | None:
        """Check that the source is a file with bytes; return the decoder if it must be named."""
        with open_source(self.path, self.uri) as file:
            self._types = find_types_in(file)
            data = Bytes(file)
            form, wrong_size = find_big_endian_format(data), find_wrong_size(data)
        # Of a film, ffmpeg knows better whether it has sound than the list of its streams.
        if self._types and not has_sound(self._types) and "video/*" not in self._types:
            raise self._decline()
        if wrong_size is not None:  # ffmpeg could search gigabytes for the next chunk
            raise self._corrupt(wrong_size)
        if form is not None and form not in BIG_ENDIAN_DECODERS:
            raise self._corrupt(
                f"a big-endian WAV file (RIFX) of format {form[0]} and {form[1]} bits, which Segue "
                "does not read: convert it, for example to FLAC"
            )
        return BIG_ENDIAN_DECODERS[form] if form else None

    def _check_header(self, header: riff.Header) -> None:
        low, high = SAMPLE_RATES_HZ
        if not low <= header.sample_rate_hz <= high:
            raise self._corrupt(
                f"its rate is {header.sample_rate_hz} Hz; the rate must be from {low} to {high} Hz"
            )
        if not 1 <= header.channels <= MAX_CHANNELS:
            raise self._corrupt(f"it has {header.channels} channels; the limit is {MAX_CHANNELS}")

    def _explain_no_room(
        self, written: int, room: int, duration_s: float, log: str
    ) -> TooLarge | DiskFull:
        """Return the error of a file that decodes to more than what is free."""
        declared_s = parse_log_duration(log) or 0.0
        expected = written * max(1.0, declared_s / duration_s if duration_s else 1.0)
        whole = shutil.disk_usage(os.path.dirname(self._target)).total
        what = f"{self.uri}: decodes to {expected / 2**30:.1f} GiB or more"
        if expected > _keep_reserve(whole):
            return TooLarge(
                f"{what}, and the whole disk for temporary files holds {whole / 2**30:.1f} GiB; "
                "set TMPDIR to a folder on a larger disk, or cut the file into parts"
            )
        return DiskFull(
            f"{what}, and {room / 2**30:.1f} GiB are free for temporary files; free space there"
        )

    def _check_range(self, y: NDArray[np.float32]) -> None:
        import numpy as np

        # Minimum and maximum propagate NaN and infinity, without an array of flags.
        extremes = [(block.min(), block.max()) for _, block in iterate_blocks(y.reshape(-1))]
        peak = float(np.abs(extremes).max())
        if not np.isfinite(peak):
            raise self._corrupt("some of its samples are infinite or not a number")
        if peak > MAX_PEAK:
            raise self._corrupt(
                f"its samples reach {peak:g}, where 1 is full scale; did a program write integers "
                "as floating-point numbers? Divide them by their full scale, such as 32768"
            )

    def _explain_failure(self, report: FfmpegResult) -> str:
        if self._is_text():
            return "not audio, but text, such as a playlist or a web page"
        if "Format not on whitelist" in report.log:
            return "not audio in a container that Segue reads: convert it, for example to FLAC"
        if "moov atom not found" in report.log:
            return "truncated: the index at the end of the file is missing (no moov atom)"
        if "WAVEFORMATEX support for RIFX" in report.log:
            return (
                "a big-endian WAV file (RIFX) with an extended header, which ffmpeg does not read: "
                "convert it, for example to FLAC"
            )
        if "matches no streams" in report.log:
            return "it has no audio stream"
        left_out = _CODEC_LEFT_OUT.findall(report.log)
        if left_out and "rror while opening decoder" in report.log:
            return (
                f"its sound is coded as {left_out[-1]}, which Segue does not decode: convert it "
                "with the program that wrote it, for example to FLAC"
            )
        if "Output file is empty" in report.log:
            return "it holds no samples that can be decoded"
        if "Stream mapping:" in report.log:
            return f"damaged: most of it cannot be decoded: {report.reason}"
        return f"not audio: {report.reason}"

    def _is_text(self) -> bool:
        with open(self.path, "rb") as file:
            head = file.read(256)
        return not any(byte < 0x20 and byte not in b"\t\n\r\f" for byte in head)

    def _decline(self) -> NotApplicable:
        reason = "" if "video/*" in self._types else ", which has no sound"
        return NotApplicable(f"{self.uri} is {describe_types(self._types)}{reason}")

    def _corrupt(self, what: str) -> CorruptMedia:
        return CorruptMedia(f"{self.uri}: {what}")


def _read_limit() -> int:
    """Return how many bytes a file may decode to."""
    setting = os.environ.get(MAX_DECODED_GIB) or str(DEFAULT_MAX_DECODED_GIB)
    try:
        limit = int(float(setting) * 2**30)
    except (ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise ConfigurationError(f"{MAX_DECODED_GIB} is {setting!r}; it must be a number above 0")
    return limit


def _find_room(folder: str) -> int:
    """Return how many bytes may be written to a folder, so that others can write there, too."""
    return _keep_reserve(shutil.disk_usage(folder).free)


def _keep_reserve(size_bytes: int) -> int:
    return size_bytes - min(size_bytes // 16, MAX_RESERVE_BYTES)


def _map_samples(path: str, header: riff.Header, frames: int) -> NDArray[np.float32]:
    import numpy as np

    shape = (frames, header.channels)
    mapped = np.memmap(path, np.float32, mode="r", offset=header.offset_bytes, shape=shape)
    # Jobs get a plain array: reductions of a memmap return memmaps again, and are slower.
    return np.asarray(mapped)
