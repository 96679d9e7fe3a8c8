"""``audio/flac`` and ``audio/wav``: sound in 16 bits, and sound as it is.

FLAC holds 16-bit integers. A sample y becomes round(y * 32768), halves to even, and what is beyond
[-32768, 32767] is clipped to it: a full-scale 1.0 is written as 32767/32768. Decoding divides by
32768. So what was decoded once is encoded without any further loss, and no dither is added, since
the same value must give the same bytes.

WAV holds the 32-bit floats themselves, beyond [-1, 1] too: what stems and later steps need.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from segue.codec.encoded import Encoded, described
from segue.errors import BadOutput, CorruptMedia
from segue.media import riff
from segue.media.audio import Audio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FULL_SCALE = 32768
FLAC_MAX_CHANNELS = 8
FLAC_MAX_RATE_HZ = 655_350
# Above this, a frame of FLAC holds the rate in tens of Hz.
FLAC_FINE_RATE_HZ = 65_535
WAV_MAX_CHANNELS = 1_024


class FlacCodec:
    """Audio of 1 to 8 channels, as 16-bit FLAC."""

    extension = "flac"

    def encode(self, value: object) -> Encoded:
        """Quantise to 16 bits and compress."""
        import numpy as np
        import soundfile

        audio = _checked(value, "audio/flac")
        if audio.channels > FLAC_MAX_CHANNELS:
            raise BadOutput(
                f"the audio has {audio.channels} channels; FLAC holds {FLAC_MAX_CHANNELS}: mix "
                "them, or declare audio/wav"
            )
        if audio.sr > FLAC_MAX_RATE_HZ or (audio.sr > FLAC_FINE_RATE_HZ and audio.sr % 10):
            raise BadOutput(
                f"the audio has {audio.sr} Hz; FLAC holds up to {FLAC_MAX_RATE_HZ} Hz, above "
                f"{FLAC_FINE_RATE_HZ} Hz in steps of 10: resample it, or declare audio/wav"
            )
        samples = _quantised(audio.y)
        buffer = io.BytesIO()
        soundfile.write(buffer, samples.T, audio.sr, format="FLAC", subtype="PCM_16")
        y = samples.astype(np.float32)
        y /= FULL_SCALE
        y.flags.writeable = False
        return Encoded(buffer.getvalue(), Audio(y=y, sr=audio.sr))

    def decode(self, data: bytes) -> Audio:
        """Read samples as 32-bit floats; the array is read-only."""
        import soundfile

        try:
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                samples, declared = file.read(dtype="float32"), file.frames
        except soundfile.LibsndfileError as error:
            reason = error.error_string
            raise CorruptMedia(f"{described(data)} is not audio/flac: {reason}") from error
        if len(samples) != declared:
            raise CorruptMedia(f"{described(data)} is audio/flac, but not all of it is there")
        return _audio(samples, file.samplerate)


class WavCodec:
    """Audio of any number of channels, as 32-bit floats."""

    extension = "wav"

    def encode(self, value: object) -> Encoded:
        """Write a header and the samples."""
        import numpy as np

        audio = _checked(value, "audio/wav")
        frames = audio.y.shape[-1]
        if audio.channels > WAV_MAX_CHANNELS:
            raise BadOutput(
                f"the audio has {audio.channels} channels; {WAV_MAX_CHANNELS} are the limit of "
                "audio/wav: did you put the samples first? The shape is (channels, n)"
            )
        try:
            header = riff.float32_header(
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

        header = riff.read(io.BytesIO(data))
        if header is None or (header.format_tag, header.bits) != (riff.IEEE_FLOAT, 32):
            raise CorruptMedia(f"{described(data)} is not audio/wav of 32-bit floats")
        present = len(data) - header.offset_bytes
        if header.size_bytes not in (None, present) or header.channels == 0:
            raise CorruptMedia(f"{described(data)} is audio/wav, but not all of it is there")
        samples = np.frombuffer(data, "<f4", offset=header.offset_bytes)
        samples = samples.reshape(-1, header.channels).astype(np.float32)
        return _audio(samples[:, 0] if header.channels == 1 else samples, header.sample_rate_hz)


def _audio(samples: NDArray[np.float32], sample_rate_hz: int) -> Audio:
    import numpy as np

    # In one layout in memory, or sums over the samples would differ in their last bits.
    y = np.ascontiguousarray(samples.T)
    y.flags.writeable = False
    return Audio(y=y, sr=sample_rate_hz)


def _checked(value: object, content_type: str) -> Audio:
    """Return the audio with (1, n) made (n,), if it is such that a file can hold it."""
    import numpy as np

    if not isinstance(value, Audio):
        raise BadOutput(
            f"the job returned {described(value)}; {content_type} holds Audio: return "
            "Audio(y=samples, sr=rate)"
        )
    y = value.y
    if not isinstance(y, np.ndarray) or y.dtype != np.float32:
        what = f"an array of {y.dtype}" if isinstance(y, np.ndarray) else described(y)
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
        raise BadOutput(f"the rate is {described(value.sr)}; it is a whole number of Hz: round it")
    # The extremes carry any NaN or infinity, and need no array of flags.
    if not (np.isfinite(y.min()) and np.isfinite(y.max())):
        first = int(np.argmin(np.isfinite(y).all(axis=0) if y.ndim == 2 else np.isfinite(y)))
        raise BadOutput(
            f"sample {first} is infinite or not a number; sound is finite: look for a division by "
            "zero, as when normalising silence"
        )
    return Audio(y=y[0] if y.shape[0] == 1 and y.ndim == 2 else y, sr=int(value.sr))


def _quantised(y: NDArray[np.float32]) -> NDArray[np.int16]:
    import numpy as np

    scaled = np.array(y, np.float32, order="C")
    scaled *= FULL_SCALE
    np.rint(scaled, out=scaled)
    np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled)
    return scaled.astype(np.int16)
