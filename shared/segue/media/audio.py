"""The types of jobs that process audio: decoded audio, its blocks, and a local media file."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from segue.media.probe import MediaInfo

BLOCK_FRAMES = 1 << 18

# Not every system has this constant.
DONTNEED: int | None = getattr(mmap, "MADV_DONTNEED", None)


@dataclass(frozen=True, slots=True)
class Audio:
    """Decoded audio.

    Attributes
    ----------
    y : np.ndarray [shape=(n,) or (channels, n)], dtype float32
        Samples, nominally in [-1, 1]; one dimension for mono, channels first otherwise, as in
        librosa.
    sr : int > 0
        Sampling rate in Hz.
    """

    y: NDArray[np.float32]
    sr: int

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 1 if self.y.ndim == 1 else int(self.y.shape[0])

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.y.shape[-1]) / self.sr

    def mono(self) -> Audio:
        """Return the mean of the channels, or itself if it has one channel."""
        if self.y.ndim == 1:
            return self
        if self.y.shape[0] == 2:
            # mean(axis=0) of two long rows is many times slower than this.
            mixed = (self.y[0] + self.y[1]) * self.y.dtype.type(0.5)
        else:
            mixed = self.y.mean(axis=0, dtype=self.y.dtype)
        return Audio(y=mixed, sr=self.sr)


class Media(Protocol):
    """A local media file; jobs get it for an input that is declared as ``source``.

    It may be sound, an image, a film, or anything else: each method raises `segue.NotApplicable`
    for a file of another kind than it is for, and `segue.CorruptMedia` for a damaged one.
    """

    @property
    def uri(self) -> str:
        """Its URI, such as ``gs://bucket/name`` or ``file:///folder/name``."""

    @property
    def version(self) -> str:
        """The version of its content."""

    @property
    def path(self) -> str:
        """The path of a local, read-only file with exactly the bytes of that version."""

    def audio(self) -> Audio:
        """Decode at the file's own rate and channels.

        The file is decoded once, however many jobs of a line call this; the samples are mapped from
        a temporary file, so a long file does not have to fit in memory.

        Returns
        -------
        Audio
            ``y`` has the shape (n,) for mono files and (channels, n) for others.

        Raises
        ------
        NotApplicable
            If its bytes prove that it is something without sound: an image, a film without an
            audio stream, a document. A job that needs sound does not run for it.
        CorruptMedia
            If the file is empty, truncated, damaged, or not recognised.
        TooLarge
            If it is longer, or decodes to more, than a limit allows.
        """

    def decode_to_wav(self) -> str:
        """Return the path of a WAV file of 32-bit floats with the samples of `audio`.

        It is for programs that need a file, such as a filter of ffmpeg. It decodes like `audio`.
        """

    def image(self) -> NDArray[np.uint8]:
        """Decode an image: PNG, JPEG, WebP, GIF, TIFF or BMP.

        Returns
        -------
        np.ndarray [shape=(height, width, 3)], dtype uint8
            Red, green and blue, from 0 to 255, upright: the orientation in the file's EXIF data is
            applied. What is transparent is shown on white; of an animation, it is the first
            picture. Colour profiles are not applied, and 16 bits per channel become 8. The array
            is read-only.

        Raises
        ------
        NotApplicable
            If its bytes prove that it is something else: a song, a film, a document.
        CorruptMedia
            If the file is empty, truncated, damaged, not recognised, or an image of another format.
        TooLarge
            If it has more than 178,956,970 pixels, or needs more than the job's ``memory_gib``.
        """

    def frames(self, *, min_gap_s: float = 0.0) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Decode the key frames of a film, one at a time; frames in between are skipped.

        A film has a key frame at each cut and every few seconds; of some codecs, such as ProRes and
        Motion JPEG, each frame is one.

        Parameters
        ----------
        min_gap_s : float >= 0
            Key frames that follow the last one sooner are left out.

        Yields
        ------
        time_s : float
            When the frame is shown, in seconds from the start of the film's pictures.
        rgb : np.ndarray [shape=(height, width, 3)], dtype uint8
            Red, green and blue, from 0 to 255; upright, if the film is turned by right angles. The
            array is read-only.

        Raises
        ------
        NotApplicable
            If its bytes prove that it has no moving pictures: a song, an image, a document.
        CorruptMedia
            If the file is empty, truncated or not recognised, a key frame is damaged, or its codec
            is not read.
        TooLarge
            If it is longer than six hours, a frame has more than 67,108,864 pixels or needs more
            than the job's ``memory_gib``, or there are more than 100,000 key frames.
        """

    def probe(self) -> MediaInfo:
        """Describe the file without decoding it: container, streams, duration, tags.

        It works for any file; one that is not media has no streams.

        Returns
        -------
        MediaInfo
            What the file says about itself, which JSON can hold.
        """


def iterate_blocks(
    y: NDArray[np.float32], frames: int = BLOCK_FRAMES
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Iterate over samples in blocks, so that an hour of audio is never in memory at once.

    Parameters
    ----------
    y : np.ndarray [shape=(n,) or (channels, n)]
        Samples. If they are mapped from a file, like those of `Media.audio`, a block does not count
        as the process's memory any more once it is done.
    frames : int > 0
        The largest number of samples per channel in a block.

    Yields
    ------
    start : int
        The first sample of the block.
    block : np.ndarray [shape=(m,) or (channels, m)]
        A view of the samples.
    """
    for start in range(0, y.shape[-1], frames):
        yield start, y[..., start : start + frames]
        release_pages(y)


def cut_span(y: NDArray[np.float32], start: int, end: int) -> NDArray[np.float32]:
    """Return the mean channel of y[start:end], with zeros before its start and after its end."""
    import numpy as np

    inside = Audio(y=y[..., max(0, start) : max(0, end)], sr=1).mono().y
    if start >= 0 and len(inside) == end - start:
        return inside
    before = min(max(0, -start), end - start)
    return np.pad(inside, (before, end - start - before - len(inside)))


def release_pages(y: NDArray[np.float32]) -> None:
    """Stop counting samples as the process's memory, if they are mapped from a file.

    They are read from the file again when they are used again.
    """
    mapping = _find_read_only_mapping(y)
    if mapping is not None and DONTNEED is not None:
        mapping.madvise(DONTNEED)


def _find_read_only_mapping(array: object) -> mmap.mmap | None:
    import numpy as np

    # The advice would destroy data that is only in memory; a read-only mapping of a file is safe.
    if not isinstance(array, np.ndarray):
        return None
    base: object = array.base
    if isinstance(array, np.memmap) and array.mode == "r" and isinstance(base, mmap.mmap):
        return base
    return _find_read_only_mapping(base)
