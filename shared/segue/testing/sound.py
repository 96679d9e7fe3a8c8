"""Synthesised audio with a known truth, for tests, benchmarks and the demonstration.

All functions are pure; those that use random numbers take a seed. The truth is in the arguments: a
click track at 120 bpm has its beats at `beat_times(120.0, ...)`, and `sine_at_lufs(-23.0)` measures
-23.0 LUFS on any meter.
"""

from __future__ import annotations

import math
import os
import tempfile
from typing import TYPE_CHECKING

from segue import codec
from segue.errors import ConfigurationError
from segue.media.audio import Audio
from segue.media.ffmpeg import run_ffmpeg
from segue.testing.music import add
from segue.testing.music import music as music  # noqa: PLC0414 - also found here

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# ITU-R BS.1770-4, annex 1: at this frequency the K weighting cancels the constant -0.691, and a
# full-scale sine in one channel measures -3.01 LKFS.
LOUDNESS_TONE_HZ = 997.0

# These formats support only some rates; their encoders would silently change others.
MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
RATES_HZ = {"mp3": MP3_RATES_HZ, "m4a": (*MP3_RATES_HZ, 64000, 88200, 96000)}
FORMATS = ("wav", "flac", "mp3", "ogg", "m4a")


def silence(duration_s: float = 1.0, *, sr: int = 44100, channels: int = 1) -> Audio:
    """Return digital silence."""
    import numpy as np

    return _spread(np.zeros(round(duration_s * sr), np.float32), sr, channels)


def tone(
    frequency_hz: float = 440.0,
    duration_s: float = 1.0,
    *,
    sr: int = 44100,
    peak_dbfs: float = -6.0,
    phase_rad: float = 0.0,
    fade_s: float = 0.0,
    channels: int = 1,
) -> Audio:
    """Return a sine wave that fades in and out linearly over `fade_s` seconds."""
    import numpy as np

    t = np.arange(round(duration_s * sr)) / sr
    y = 10 ** (peak_dbfs / 20) * np.sin(2 * np.pi * frequency_hz * t + phase_rad)
    if fade_s > 0:
        y *= np.clip(np.minimum(t, t[-1] - t) / fade_s, 0, 1)
    return _spread(y.astype(np.float32), sr, channels)


def noise(
    seed: int,
    duration_s: float = 1.0,
    *,
    sr: int = 44100,
    rms_dbfs: float = -20.0,
    channels: int = 1,
) -> Audio:
    """Return white Gaussian noise, independent in each channel; RMS 1.0 is 0 dBFS."""
    import numpy as np

    shape = (channels, round(duration_s * sr)) if channels > 1 else round(duration_s * sr)
    y = np.random.default_rng(seed).standard_normal(shape) * 10 ** (rms_dbfs / 20)
    return Audio(y=np.clip(y, -1, 1).astype(np.float32), sr=sr)


def sine_at_lufs(
    loudness_lufs: float, duration_s: float = 5.0, *, sr: int = 48000, channels: int = 2
) -> Audio:
    """Return a sine wave of a given integrated loudness in one or two equal channels.

    Two channels with the same sine of `x` dBFS peak measure `x` LUFS, one channel 3.01 less.
    """
    import numpy as np

    peak_dbfs = loudness_lufs + 10 * np.log10(2 / channels)
    return tone(LOUDNESS_TONE_HZ, duration_s, sr=sr, peak_dbfs=peak_dbfs, channels=channels)


def beat_times(bpm: float, duration_s: float, *, first_beat_s: float = 0.0) -> list[float]:
    """Return the times of the beats of `click_track` and `music`, in seconds."""
    period_s = 60.0 / bpm
    count = max(0, math.floor((duration_s - first_beat_s) / period_s - 1e-9) + 1)
    return [first_beat_s + i * period_s for i in range(count)]


def click_track(
    bpm: float = 120.0,
    duration_s: float = 10.0,
    *,
    sr: int = 22050,
    first_beat_s: float = 0.0,
    peak_dbfs: float = -3.0,
    channels: int = 1,
) -> Audio:
    """Return a metronome: a decaying 1 kHz click on each beat."""
    import numpy as np

    y = np.zeros(round(duration_s * sr))
    t = np.arange(round(0.05 * sr)) / sr
    click = 10 ** (peak_dbfs / 20) * np.cos(2 * np.pi * 1000 * t) * np.exp(-t / 0.01)
    for time_s in beat_times(bpm, duration_s, first_beat_s=first_beat_s):
        add(y, click, round(time_s * sr))
    return _spread(y.astype(np.float32), sr, channels)


def write(audio: Audio, path: str, format: str | None = None) -> str:  # noqa: A002 - as in soundfile
    """Write a media file, with the same bytes each time on one machine, and return its path.

    Parameters
    ----------
    audio : Audio
        Samples beyond [-1, 1] are clipped.
    path : str
        The file to write; its suffix gives the format, unless `format` does.
    format : {'wav', 'flac', 'mp3', 'ogg', 'm4a'}, optional
        WAV and FLAC have 16 bits, MP3 is encoded by LAME, OGG by libvorbis, M4A is AAC.

    Raises
    ------
    ConfigurationError
        If the format is unknown, or does not support that rate or number of channels.
    """
    kind = (format or os.path.splitext(path)[1].lstrip(".")).lower()
    if kind not in FORMATS:
        raise ConfigurationError(f"format {kind!r} is unknown: use one of {', '.join(FORMATS)}")
    rates_hz = RATES_HZ.get(kind, (audio.sr,))
    if audio.sr not in rates_hz or (kind == "mp3" and audio.channels > 2):
        raise ConfigurationError(
            f"{kind} cannot hold {audio.channels} channels at {audio.sr} Hz: use one or two at one "
            f"of {', '.join(map(str, rates_hz))} Hz, or another format"
        )
    if kind in ("ogg", "m4a"):
        _write_with_ffmpeg(audio, path, kind)
    elif kind == "flac":
        with open(path, "wb") as file:
            file.write(codec.encode("audio/flac", audio).data)
    else:
        _write_with_soundfile(audio, path, kind)
    return path


def _write_with_soundfile(audio: Audio, path: str, kind: str) -> None:
    import soundfile

    # Quantised as in audio/flac, so all lossless formats hold the same samples; the rate does not
    # matter for that, so it is one that FLAC supports.
    y = codec.encode("audio/flac", Audio(y=audio.y, sr=8000)).value.y.T
    if kind == "wav":
        soundfile.write(path, (y * 32768).astype("int16"), audio.sr, "PCM_16", format="WAV")
    else:
        soundfile.write(path, y, audio.sr, format="MP3")


def _write_with_ffmpeg(audio: Audio, path: str, kind: str) -> None:
    import ffmpeg

    # libsndfile gives each Ogg stream a random serial number, and does not support AAC.
    options = {
        "ogg": {"f": "ogg", "c:a": "libvorbis", "q:a": 5},
        "m4a": {"f": "ipod", "c:a": "aac", "b:a": min(128_000, 4 * audio.sr) * audio.channels},
    }[kind]
    exact = {"fflags": "+bitexact", "flags:a": "+bitexact", "map_metadata": -1}
    with tempfile.TemporaryDirectory() as folder:
        source = write(audio, os.path.join(folder, "source.wav"))
        stream = ffmpeg.input(f"file:{source}", threads=1)
        report = run_ffmpeg(stream["a:0"].output(f"file:{path}", **options, **exact))
    if report.returncode != 0:
        raise ConfigurationError(
            f"ffmpeg cannot write {audio.channels} channels at {audio.sr} Hz as {kind}: "
            f"{report.reason}; use another rate or format"
        )


def _spread(y: NDArray[np.float32], sr: int, channels: int) -> Audio:
    import numpy as np

    return Audio(y=y if channels == 1 else np.repeat(y[np.newaxis], channels, axis=0), sr=sr)
