"""Tempo and beats.

An onset envelope is the increase of the spectrum at each moment, as the median over mel bands. Its
autocorrelation, weighted by how common a tempo is, gives the tempo; dynamic programming then picks
beats that are on onsets and keep that tempo [1]_. Both are librosa's. Times are in seconds from the
start of the file.

The median, for which beat tracking is tuned, ignores a single loud band, such as a bass note
between two beats. librosa uses the median if it is given samples, and the mean if it is given an
envelope: here the envelope is computed first, once, so the median is requested explicitly.

.. [1] Ellis, D. P. W. "Beat tracking by dynamic programming." Journal of New Music Research 36.1
   (2007): 51-60.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segue.features.mel import compute_mel_power
from segue.media.audio import Audio
from segue.media.memory import format_duration, require_memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("librosa", "scipy.fft", "segue.features.rhythm:warm_up")

# The autocorrelation of an hour would take 2 GB at once; a chunk is six minutes at 22.05 kHz.
TEMPO_CHUNK_FRAMES = 1 << 14
# librosa's envelope is computed in blocks, since its copies of the spectrogram are large.
ENVELOPE_CHUNK_FRAMES = 1 << 12
N_FFT = 2048
TOP_DB = 80.0
N_MELS = 128
# Measured, and rounded up: of the whole file, the spectrogram and what tracks beats; of one chunk,
# the autocorrelation.
BYTES_PER_FRAME = 4 * N_MELS + 128
CHUNK_BYTES_PER_FRAME = 16 * 2**10
# With fewer beats, the estimated tempo is better than one fitted to them.
BEATS_FOR_A_FIT = 4


def beats(
    audio: Audio, *, hop_length: int = 512, start_bpm: float = 120.0, tightness: float = 100.0
) -> dict[str, Any]:
    """Find the tempo and the beats.

    Parameters
    ----------
    audio : Audio
        The audio; several channels are averaged.
    hop_length : int > 0
        Samples between two values of the onset envelope: the resolution of beat times.
    start_bpm : float > 0
        The most common tempo; others are less likely by their distance from it in octaves.
    tightness : float > 0
        How strictly beats keep the tempo.

    Returns
    -------
    dict
        - ``tempo_bpm`` : float, or None if there are fewer than two beats. The slope of a line
          through the beats, which is more precise than the tempo that the tracker estimated.
        - ``beat_times_s`` : list of float, ascending, to the microsecond.
        - ``beat_strengths`` : list of float in [0, 1], as long: the onset envelope at each beat,
          relative to its maximum in the file.

    Examples
    --------
    >>> from segue.testing import sound
    >>> round(beats(sound.click_track(bpm=120.0, duration_s=10.0))["tempo_bpm"])
    120
    """
    import librosa
    import numpy as np

    frames_in_all = audio.y.shape[-1] / hop_length
    require_memory(
        BYTES_PER_FRAME * frames_in_all
        + CHUNK_BYTES_PER_FRAME * min(frames_in_all, TEMPO_CHUNK_FRAMES),
        f"beats of {format_duration(audio.duration_s)}",
    )
    envelope = _compute_onset_envelope(audio, hop_length)
    frames: NDArray[np.intp] = np.zeros(0, np.intp)
    bpm = 0.0
    if envelope.any():
        bpm = _estimate_tempo(envelope, audio.sr, hop_length, start_bpm)
        _, frames = librosa.beat.beat_track(
            onset_envelope=envelope,
            sr=audio.sr,
            hop_length=hop_length,
            bpm=bpm,
            tightness=tightness,
        )
    if len(frames) < 2:
        return {"tempo_bpm": None, "beat_times_s": [], "beat_strengths": []}
    times_s: NDArray[np.float64] = frames * hop_length / audio.sr
    strengths = envelope[frames] / envelope.max()
    return {
        "tempo_bpm": round(_fit_tempo(times_s, bpm), 3),
        "beat_times_s": times_s.round(6).tolist(),
        "beat_strengths": strengths.astype(np.float64).round(4).tolist(),
    }


def _compute_onset_envelope(audio: Audio, hop_length: int) -> NDArray[np.float32]:
    import librosa
    import numpy as np

    S = compute_mel_power(
        audio.y, audio.sr, n_fft=N_FFT, hop_length=hop_length, n_mels=N_MELS, fmax=audio.sr / 2
    )
    for band in S:
        band[:] = librosa.power_to_db(band, top_db=None)
    np.maximum(S, S.max() - TOP_DB, out=S)
    frames = S.shape[1]
    rises = np.zeros(frames, np.float32)
    for start in range(1, frames, ENVELOPE_CHUNK_FRAMES):
        end = min(start + ENVELOPE_CHUNK_FRAMES, frames)
        # The first value of a chunk has no predecessor in it.
        rises[start:end] = librosa.onset.onset_strength(
            S=S[:, start - 1 : end],
            sr=audio.sr,
            hop_length=hop_length,
            aggregate=np.median,
            center=False,
        )[1:]
    # A rise shows first in the frame whose window ends after it.
    delay = N_FFT // (2 * hop_length)
    return np.concatenate([np.zeros(delay, np.float32), rises])[:frames]


def _estimate_tempo(
    envelope: NDArray[np.float32], sr: int, hop_length: int, start_bpm: float
) -> float:
    import librosa
    import numpy as np

    lags = np.zeros((384, 1))
    for start in range(0, len(envelope), TEMPO_CHUNK_FRAMES):
        chunk = envelope[start : start + TEMPO_CHUNK_FRAMES]
        tempogram = librosa.feature.tempogram(onset_envelope=chunk, sr=sr, hop_length=hop_length)
        lags += tempogram.sum(axis=1, keepdims=True)
    tempo = librosa.feature.tempo(
        tg=lags / len(envelope), sr=sr, hop_length=hop_length, start_bpm=start_bpm
    )
    return float(np.atleast_1d(tempo)[0])


def _fit_tempo(times_s: NDArray[np.float64], assumed_bpm: float) -> float:
    import numpy as np

    if len(times_s) < BEATS_FOR_A_FIT:
        return assumed_bpm
    intervals_s = np.diff(times_s)
    # A missed beat makes an interval of two beats.
    steps = np.maximum(1, np.rint(intervals_s / np.median(intervals_s)))
    numbers = np.concatenate([[0.0], np.cumsum(steps)])
    return float(60.0 / np.polyfit(numbers, times_s, 1)[0])


def warm_up() -> None:
    """Make librosa compile its functions, with ten seconds of clicks."""
    import numpy as np

    y = np.zeros(220_500, np.float32)
    y[::11_025] = 1.0
    beats(Audio(y=y, sr=22_050))
