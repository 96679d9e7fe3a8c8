"""The key of a piece, and how far it is from concert pitch.

The peaks of the spectrum are pitches, each placed between its bins by a parabola. How far they are
from the semitones of A = 440 Hz, as their mean direction on a circle of one semitone, is the tuning
[1]_; where they are on it, as the mean over all frames, makes twelve pitch classes. These are
correlated with how often each is heard in major and in minor, for each of the 24 keys [2]_ [3]_.

The spectrum is compressed to its square root, each frame counts the same, and pitches count most
around E4: so neither a loud passage, nor the bass, nor overtones decide alone. Frequencies of pitch
classes are those of the examples in a textbook of harmony [3]_, which did better on accompaniments
of known key than listeners' ratings [2]_ or counts of dance music [4]_.

.. [1] Dressler, K. and Streich, S. "Tuning frequency estimation using circular statistics." ISMIR
   (2007): 357-360.
.. [2] Krumhansl, C. L. and Kessler, E. J. "Tracing the dynamic changes in perceived tonal
   organization in a spatial representation of musical keys." Psychological Review 89.4 (1982):
   334-368.
.. [3] Temperley, D. "Music and probability." MIT Press (2007), chapter 6; after the examples of
   Kostka, S. and Payne, D. "Tonal harmony."
.. [4] Faraldo, Á., Gómez, E., Jordà, S. and Herrera, P. "Key estimation in electronic dance
   music." ECIR (2016): 335-347.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict, cast

from msgspec import Meta

from segue.media.audio import Audio, release_pages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("numpy", "scipy.fft")

TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MODES = ("major", "minor")
# How often each pitch class is heard, from the tonic up [3].
PROFILES = (
    (0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400),
    (0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330),
)

# A sine of 110 Hz needs 0.3 s to be told from its neighbour, a semitone away.
WINDOW_S = 0.3715  # 8192 samples at 22.05 kHz
BLOCK_FRAMES = 32
SHORTEST_S = 3.0
# Each frame that is not silent weighs 1; these are 2.4 s.
LEAST_FRAMES = 12
LOWEST_HZ, HIGHEST_HZ = 55.0, 2093.0
# The pitch that counts most, and the standard deviation of the weight, in MIDI's semitones.
CENTRE, WIDTH = 64.0, 14.0
# Peaks below the strongest of their frame by more than this are not heard.
PEAK_RANGE_DB = 60.0
# Frames without a louder sine are silent.
SILENCE_DBFS = -70.0
# Half the width of a pitch class; what lies between two counts for neither.
CLASS_CENTS = 30.0
# The resultant length of directions on the circle of a semitone: measured, up to 0.03 for noise,
# drums and speech, 0.05 to 0.2 for distorted guitars, and more for most music.
LEAST_AGREEMENT = 0.04
# A single tone or a fifth is in many keys. A pitch class counts from a tenth of the strongest on.
LEAST_CLASSES, LEAST_SHARE = 3, 0.1


class Key(TypedDict):
    """The key and the tuning of a file; a reason where there are none."""

    key: Annotated[
        str | None, Meta(description="the tonic: one of C, C#, D, D#, E, F, F#, G, G#, A, A#, B")
    ]
    mode: Annotated[str | None, Meta(description="major or minor")]
    camelot: Annotated[
        str | None, Meta(description="the same as DJs write it: 8B for C major, 8A for A minor")
    ]
    confidence: Annotated[
        float | None, Meta(description="from 0 to 1: the margin over the best unrelated key")
    ]
    tuning_cents: Annotated[float | None, Meta(description="from -50 to 50, above A = 440 Hz")]
    reason: Annotated[str | None, Meta(description="why all of these are null")]


def key(audio: Audio) -> Key:
    """Estimate the key and the tuning.

    Parameters
    ----------
    audio : Audio
        The audio; several channels are averaged.

    Returns
    -------
    Key
        The confidence is by how much the correlation with this key exceeds that with the best
        unrelated one. Related are the relative and the parallel key, and those a fifth above and
        below in the same mode: they share most of their notes, and are what is confused most. There
        is no key, but a reason, if the file is shorter than 3 s, silent, or almost so, or has no
        pitch, as drums, noise and speech, or fewer than three.

    Notes
    -----
    One key is given for the whole piece, whatever it modulates to. A loop of chords that two keys
    share, such as those of A minor without its leading note, usually reads as the major one. A
    detuning of almost half a semitone may read as the next key's, in the other direction.
    """
    import numpy as np

    if audio.duration_s < SHORTEST_S:
        return _describe(reason=f"shorter than {SHORTEST_S:g} s")
    cents = _collect_pitches(audio)
    total = float(cents.sum())
    if total < LEAST_FRAMES:
        return _describe(reason="too little sound" if total else "silent")
    direction = complex((cents * np.exp(2j * np.pi * np.arange(1200) / 100)).sum()) / total
    if abs(direction) < LEAST_AGREEMENT:
        return _describe(reason="no pitch")
    tuning_cents = float(np.angle(direction)) / (2 * np.pi) * 100
    chroma = _fold(cents, tuning_cents)
    if np.count_nonzero(chroma > LEAST_SHARE * chroma.max()) < LEAST_CLASSES:
        return _describe(reason="fewer than three pitches")
    correlations = _correlate(chroma)
    mode, tonic = divmod(int(correlations.argmax()), 12)
    margin = correlations[mode, tonic] - correlations[_find_unrelated(mode, tonic)].max()
    return _describe(
        key=TONICS[tonic],
        mode=MODES[mode],
        camelot=_name_camelot(mode, tonic),
        confidence=round(min(1.0, max(0.0, float(margin))), 4),
        tuning_cents=round(tuning_cents, 1),
    )


def _describe(**found: Any) -> Key:
    return cast("Key", {name: found.get(name) for name in Key.__annotations__})


def _collect_pitches(audio: Audio) -> NDArray[np.float64]:
    """Return the weight of each cent above C [shape=(1200,)], in all octaves and frames."""
    import numpy as np

    n_fft = int(2 ** np.round(np.log2(audio.sr * WINDOW_S)))
    hop_length = n_fft // 2
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    frames = 1 + (audio.y.shape[-1] - n_fft) // hop_length
    cents = np.zeros(1200)
    for first in range(0, frames, BLOCK_FRAMES):
        last = min(frames, first + BLOCK_FRAMES) - 1
        span = audio.y[..., first * hop_length : last * hop_length + n_fft]
        y = Audio(y=span, sr=audio.sr).mono().y
        framed = np.lib.stride_tricks.sliding_window_view(y, n_fft)[::hop_length]
        cents += _collect_peaks(framed * window, audio.sr)
        release_pages(audio.y)
    return cents


def _collect_peaks(framed: NDArray[np.float32], sr: int) -> NDArray[np.float64]:
    """Return the weight of each cent in windowed frames [shape=(frames, n_fft)]."""
    import numpy as np
    import scipy.fft

    n_fft = framed.shape[1]
    low, high = (int(hz * n_fft / sr) for hz in (LOWEST_HZ, min(HIGHEST_HZ, 0.45 * sr)))
    # With a bin more at either side, for what is around a peak.
    S = np.abs(scipy.fft.rfft(framed, axis=1)[:, low - 1 : high + 2])
    middle = S[:, 1:-1]
    loudest = middle.max(axis=1, keepdims=True)
    floor = np.where(
        loudest > n_fft / 4 * 10 ** (SILENCE_DBFS / 20),
        loudest * 10 ** (-PEAK_RANGE_DB / 20),
        np.inf,
    )
    frame, bin_ = np.nonzero((middle > S[:, :-2]) & (middle >= S[:, 2:]) & (middle > floor))
    before, peak, after = (
        np.log(np.maximum(S[frame, bin_ + i], 1e-12, dtype=np.float64)) for i in range(3)
    )
    shift = 0.5 * (before - after) / (before - 2 * peak + after)
    pitch = 69 + 12 * np.log2((low + bin_ + shift) * sr / n_fft / 440.0)
    weight = np.exp(0.5 * peak - 0.5 * np.square((pitch - CENTRE) / WIDTH))
    weight /= np.bincount(frame, weight, len(framed))[frame]
    cents = np.bincount(np.rint(100 * pitch).astype(np.intp) % 1200, weight, 1200)
    return cents.astype(np.float64)


def _fold(cents: NDArray[np.float64], tuning_cents: float) -> NDArray[np.float64]:
    """Return the weight of each pitch class, C first, in a tuning."""
    import numpy as np

    offsets = np.arange(1200) - tuning_cents
    nearest = np.rint(offsets / 100)
    distances = np.abs(offsets - 100 * nearest)
    near = np.cos(np.pi / 2 * np.minimum(1.0, distances / CLASS_CENTS)) ** 2
    chroma = np.bincount(nearest.astype(np.intp) % 12, cents * near, 12)
    return chroma.astype(np.float64)


def _correlate(chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation of pitch classes with each key [shape=(2, 12)]."""
    import numpy as np

    profiles = np.array([[np.roll(profile, tonic) for tonic in range(12)] for profile in PROFILES])
    profiles -= profiles.mean(axis=-1, keepdims=True)
    profiles /= np.sqrt(np.square(profiles).sum(axis=-1, keepdims=True))
    deviations = chroma - chroma.mean()
    norm = np.sqrt(np.square(deviations).sum())
    return np.asarray((profiles * deviations).sum(axis=-1) / max(norm, 1e-12))


def _find_unrelated(mode: int, tonic: int) -> NDArray[np.bool_]:
    """Return which keys [shape=(2, 12)] are related to one by no more than some notes."""
    import numpy as np

    unrelated = np.ones((2, 12), np.bool_)
    relative = tonic + (3 if mode else 9)
    unrelated[mode, [tonic, (tonic + 5) % 12, (tonic + 7) % 12]] = False
    unrelated[1 - mode, [tonic, relative % 12]] = False
    return unrelated


def _name_camelot(mode: int, tonic: int) -> str:
    """Return the place of a key on the circle of fifths, where C major and A minor are at eight."""
    major = tonic + 3 * mode
    return f"{(7 * major + 7) % 12 + 1}{'BA'[mode]}"
