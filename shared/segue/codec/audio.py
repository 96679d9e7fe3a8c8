"""``audio/flac`` and ``audio/wav``: 16-bit audio, and audio as 32-bit floats.

FLAC stores 16-bit integers. A sample y becomes round(y * 32768), halves to even, clipped to
[-32768, 32767]: a full-scale 1.0 is stored as 32767/32768. Decoding divides by 32768. So decoded
audio is encoded again without further loss. No dither is added, since the same value must give the
same bytes.

WAV stores the 32-bit floats themselves, also beyond [-1, 1]; stems and later processing need that.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from segue.codec.encoded import Encoded, describe
from segue.errors import BadOutput, CorruptMedia
from segue.media import riff
from segue.media.audio import BLOCK_FRAMES, Audio, iterate_blocks
from segue.media.samples import SampleBuffer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FULL_SCALE = 32768
FLAC_MAX_CHANNELS = 8
FLAC_MAX_RATE_HZ = 655_350
# Above this rate, a frame of FLAC stores the rate in tens of Hz.
FLAC_FINE_RATE_HZ = 65_535
WAV_MAX_CHANNELS = 1_024


class FlacCodec:
    """Audio of 1 to 8 channels, as 16-bit FLAC."""

    extension = "flac"

    def encode(self, value: object) -> Encoded:
        """Quantise to 16 bits and compress."""
        import numpy as np
        import soundfile

        audio = _check_audio(value, "audio/flac")
        if audio.channels > FLAC_MAX_CHANNELS:
            raise BadOutput(
                f"the audio has {audio.channels} channels; FLAC holds {FLAC_MAX_CHANNELS}: mix "
                "them, or declare audio/wav"
            )
        if audio.sr > FLAC_MAX_RATE_HZ or (audio.sr > FLAC_FINE_RATE_HZ and audio.sr % 10):
            raise BadOutput(
                f"the sample rate is {audio.sr} Hz; FLAC holds up to {FLAC_MAX_RATE_HZ} Hz, above "
                f"{FLAC_FINE_RATE_HZ} Hz in steps of 10: resample it, or declare audio/wav"
            )
        buffer = io.BytesIO()
        decoded = SampleBuffer(audio.channels, audio.y.shape[-1])
        with soundfile.SoundFile(
            buffer, "w", audio.sr, audio.channels, format="FLAC", subtype="PCM_16"
        ) as file:
            for start, block in iterate_blocks(audio.y):
                samples = _quantise(block)
                file.write(samples.T)
                y = samples.astype(np.float32)
                y /= FULL_SCALE
                decoded.write(start, y)
        return Encoded(buffer.getvalue(), Audio(y=decoded.finish(), sr=audio.sr))

    def decode(self, data: bytes) -> Audio:
        """Read samples as 32-bit floats; the array is read-only."""
        import soundfile

        try:
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                decoded, filled = SampleBuffer(file.channels, file.frames), 0
                while len(block := file.read(BLOCK_FRAMES, dtype="float32")):
                    decoded.write(filled, block.T)
                    filled += len(block)
        except soundfile.LibsndfileError as error:
            reason = error.error_string
            raise CorruptMedia(f"{describe(data)} is not audio/flac: {reason}") from error
        if filled != file.frames:
            raise CorruptMedia(f"{describe(data)} is audio/flac, but it is truncated")
        return Audio(y=decoded.finish(), sr=file.samplerate)


class WavCodec:
    """Audio of any number of channels, as 32-bit floats."""

    extension = "wav"

    def encode(self, value: object) -> Encoded:
        """Write a header and the samples."""
        import numpy as np

        audio = _check_audio(value, "audio/wav")
        frames = audio.y.shape[-1]
        if audio.channels > WAV_MAX_CHANNELS:
            raise BadOutput(
                f"the audio has {audio.channels} channels; audio/wav holds {WAV_MAX_CHANNELS}: did "
                "you put the samples first? The shape is (channels, n)"
            )
        try:
            header = riff.build_float32_header(
                channels=audio.channels, sample_rate_hz=audio.sr, frames=frames
            )
        except ValueError as error:
            raise BadOutput(
                f"the audio has {error}; a WAV file holds 4 GiB: cut it, or declare audio/flac"
            ) from error
        data = header + np.ascontiguousarray(audio.y.T, dtype="<f4").tobytes()
        y = np.array(audio.y, np.float32, order="C")
        y.flags.writeable = False
        return Encoded(data, Audio(y=y, sr=audio.sr))

    def decode(self, data: bytes) -> Audio:
        """Read what `encode` wrote; the array is read-only."""
        import numpy as np

        header = riff.read_header(io.BytesIO(data))
        if header is None or (header.format_tag, header.bits) != (riff.IEEE_FLOAT, 32):
            raise CorruptMedia(f"{describe(data)} is not audio/wav of 32-bit floats")
        present = len(data) - header.offset_bytes
        if header.size_bytes not in (None, present) or header.channels == 0:
            raise CorruptMedia(f"{describe(data)} is audio/wav, but it is truncated")
        samples = np.frombuffer(data, "<f4", offset=header.offset_bytes)
        samples = samples.reshape(-1, header.channels).astype(np.float32)
        return _build_audio(
            samples[:, 0] if header.channels == 1 else samples, header.sample_rate_hz
        )


def _build_audio(samples: NDArray[np.float32], sample_rate_hz: int) -> Audio:
    import numpy as np

    # Always in the same memory layout, or sums over the samples would differ in their last bits.
    y = np.ascontiguousarray(samples.T)
    y.flags.writeable = False
    return Audio(y=y, sr=sample_rate_hz)


def _check_audio(value: object, content_type: str) -> Audio:
    """Check that a file can hold the audio, and return it with (1, n) reshaped to (n,)."""
    import numpy as np

    if not isinstance(value, Audio):
        raise BadOutput(
            f"the job returned {describe(value)}; {content_type} holds Audio: return "
            "Audio(y=samples, sr=rate)"
        )
    y = value.y
    if not isinstance(y, np.ndarray) or y.dtype != np.float32:
        what = f"an array of {y.dtype}" if isinstance(y, np.ndarray) else describe(y)
        raise BadOutput(
            f"the samples are {what}; {content_type} is made from an array of float32 in [-1, 1]: "
            "use .astype(np.float32), after dividing integers by their full scale"
        )
    if y.ndim not in (1, 2) or 0 in y.shape:
        raise BadOutput(
            f"the samples have the shape {y.shape}; it must be (n,) for mono or (channels, n), "
            "with at least one sample: reshape it, or raise if there is nothing to return"
        )
    if y.ndim == 2 and y.shape[0] > FLAC_MAX_CHANNELS >= y.shape[1]:
        raise BadOutput(
            f"the samples have the shape {y.shape}, which is {y.shape[0]} channels of "
            f"{y.shape[1]} samples: did you put the samples first? Use y.T"
        )
    if not isinstance(value.sr, int | np.integer) or isinstance(value.sr, bool) or value.sr < 1:
        raise BadOutput(
            f"the rate is {describe(value.sr)}; it must be a whole number of Hz: round it"
        )
    for start, block in iterate_blocks(y):
        # Minimum and maximum propagate NaN and infinity, without an array of flags.
        if not (np.isfinite(block.min()) and np.isfinite(block.max())):
            first = start + int(np.argmin(np.isfinite(np.atleast_2d(block)).all(axis=0)))
            raise BadOutput(
                f"sample {first} is infinite or not a number; samples must be finite: look for a "
                "division by zero, such as normalising silence"
            )
    return Audio(y=y[0] if y.shape[0] == 1 and y.ndim == 2 else y, sr=int(value.sr))


def _quantise(y: NDArray[np.float32]) -> NDArray[np.int16]:
    import numpy as np

    scaled = np.array(y, np.float32, order="C")
    scaled *= FULL_SCALE
    np.rint(scaled, out=scaled)
    np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled)
    return scaled.astype(np.int16)
