"""A mel spectrogram as a picture, for people to look at.

Time runs to the right, frequency upwards on the mel scale, which is linear below 1 kHz and
logarithmic above, like perceived pitch. Brightness is power in dB below the loudest point of the
file. If the beats are given, they are marked along the upper edge.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from segue.errors import ConfigurationError
from segue.features.mel import compute_mel_power
from segue.media.audio import Audio
from segue.media.memory import format_duration, require_memory

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PRELOAD = ("librosa", "scipy.fft", "scipy.sparse", "segue.features.spectrum:warm_up")

DPI = 160
BACKGROUND = "#000004"  # the darkest colour of the map, so silence has no frame
FOREGROUND = "#b9b4c7"
BEAT = "#f6e7c1"
LABELS: dict[str, Any] = {
    "color": FOREGROUND,
    "family": "DejaVu Sans",
    "size": 7.5,
}  # the font comes with matplotlib
LEFT_PX, RIGHT_PX, ABOVE_PX, BELOW_PX = 84, 96, 30, 46
LABEL_HEIGHT_PX = 20
BAR_GAP_PX, BAR_PX = 16, 10
COLOURS = 256  # of the map

FMIN_HZ = 27.5  # the lowest A of a piano
N_MELS = 224
BYTES_PER_FRAME = 4 * N_MELS  # of the whole spectrogram, from which the columns are averaged
# Two frames per column are enough to see an attack; in a long file the window limits the hop.
FRAMES_PER_COLUMN = 2
SHORTEST_HOP = 32
# In a shorter one, below 4 kHz, some bands would lie between two bins, and be black.
SHORTEST_WINDOW = 512
# The loudest point is white, unless it is quieter than a sine of this level: then it is dim.
# Otherwise the noise of a silent file would look loud.
QUIETEST_SUBJECT_DBFS = -60.0
QUIETEST_RATIO = 1e-10  # of the loudest point's power, instead of digital silence

TIME_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
FREQUENCIES_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 40_000)


def spectrogram(
    audio: Audio,
    beats: dict[str, Any] | None = None,
    *,
    width_px: int = 1600,
    height_px: int = 600,
    range_db: float = 80.0,
) -> Any:
    """Draw a mel spectrogram.

    Parameters
    ----------
    audio : Audio
        The audio; several channels are averaged.
    beats : dict, optional
        The result of `segue.features.rhythm.beats`; ``beat_times_s`` is used.
    width_px, height_px : int > 0
        Size of the picture, at least 400 by 200.
    range_db : float > 0
        Points that are quieter than the loudest one by more than this are black.

    Returns
    -------
    np.ndarray [shape=(height_px, width_px, 3)], dtype uint8
        Pixels, RGB.

    Raises
    ------
    ConfigurationError
        If the picture is too small, or the range is not above 0.
    TooLarge
        If the spectrogram needs more memory than the job may use.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if width_px < 400 or height_px < 200:
        raise ConfigurationError(
            f"spectrogram: a picture of {width_px} by {height_px} pixels has no room for its axes: "
            "use at least 400 by 200"
        )
    if not 0 < range_db < math.inf:
        raise ConfigurationError(
            f"spectrogram: a range of {range_db:g} dB; it must be a number above 0, such as 80"
        )
    wide_px, tall_px = width_px - LEFT_PX - RIGHT_PX, height_px - BELOW_PX - ABOVE_PX
    levels = _compute_levels_db(audio, wide_px)
    figure = Figure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI, facecolor=BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    axes = _add_axes(figure, (LEFT_PX, BELOW_PX, wide_px, tall_px))
    _mark_time(axes, audio.duration_s)
    _mark_frequency(axes, audio.sr)
    if beats is not None:
        _mark_beats(axes, beats["beat_times_s"], audio.duration_s)
    bar = _add_axes(figure, (width_px - RIGHT_PX + BAR_GAP_PX, BELOW_PX, BAR_PX, tall_px))
    _mark_level(bar, range_db)
    canvas.draw()  # type: ignore[no-untyped-call] # matplotlib has no types for it
    pixels = np.array(np.asarray(canvas.buffer_rgba())[..., :3])  # type: ignore[no-untyped-call]
    # The plot is put into the picture as pixels: matplotlib takes several times as long for it.
    rows = slice(ABOVE_PX, ABOVE_PX + tall_px)
    levels = _stretch(_stretch(levels, wide_px).T, tall_px).T
    pixels[rows, LEFT_PX : LEFT_PX + wide_px] = _colour(levels, range_db)[::-1]
    scale = np.linspace(0.0, -range_db, tall_px, dtype=np.float32)
    left = width_px - RIGHT_PX + BAR_GAP_PX
    pixels[rows, left : left + BAR_PX] = _colour(scale, range_db)[:, np.newaxis]
    return pixels


def _stretch(levels: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """Interpolate linearly between the middles of columns, to a number of columns."""
    import numpy as np

    present = levels.shape[1]
    if present == columns:
        return levels
    middles = (np.arange(columns) + 0.5) * (present / columns) - 0.5
    middles = np.clip(middles, 0, present - 1)
    before = middles.astype(np.intp)
    share = (middles - before).astype(np.float32)
    after = np.minimum(before + 1, present - 1)
    stretched: NDArray[np.float32] = levels[:, before] * (1 - share) + levels[:, after] * share
    return stretched


def _colour(levels: NDArray[np.float32], range_db: float) -> NDArray[np.uint8]:
    """Return the colours [shape=(..., 3)] of levels in dB."""
    import matplotlib as mpl
    import numpy as np

    colours = mpl.colormaps["magma"](np.arange(COLOURS), bytes=True)[:, :3]
    numbers = (levels + np.float32(range_db)) * np.float32(COLOURS / range_db)
    return np.asarray(colours[np.clip(numbers, 0, COLOURS - 1).astype(np.intp)])


def _compute_levels_db(audio: Audio, columns: int) -> NDArray[np.float32]:
    """Return the picture [shape=(bands, columns)] in dB; short files have fewer columns."""
    import numpy as np

    n_fft = max(SHORTEST_WINDOW, 2 ** round(np.log2(audio.sr * 0.093)))  # 2048 at 22.05 kHz
    n = audio.y.shape[-1]
    hop_length = int(np.clip(n // (columns * FRAMES_PER_COLUMN), SHORTEST_HOP, n_fft // 2))
    require_memory(
        BYTES_PER_FRAME * n / hop_length, f"spectrogram of {format_duration(audio.duration_s)}"
    )
    S = compute_mel_power(
        audio.y, audio.sr, n_fft=n_fft, hop_length=hop_length, n_mels=N_MELS, fmin=FMIN_HZ
    )
    if S.shape[1] > columns:
        edges = np.linspace(0, S.shape[1], columns, endpoint=False).astype(np.intp)
        counts = np.diff(edges, append=S.shape[1])
        S = (np.add.reduceat(S, edges, axis=1) / counts).astype(np.float32)
    loudest = max(float(S.max()), _compute_sine_power(n_fft, audio.sr, QUIETEST_SUBJECT_DBFS))
    return _power_to_db(np.maximum(S / np.float32(loudest), QUIETEST_RATIO))


def _power_to_db(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 10 log10 of a power above 0, to 1e-9 dB.

    NumPy's logarithm has other last bits on other processors, and a point at the edge of a colour
    would have another one. This one adds, multiplies and divides only.
    """
    import numpy as np

    mantissa, exponent = np.frexp(power.astype(np.float64))
    # log2 of a mantissa in [0.5, 1) is -0.5 + 2 / ln 2 · artanh z, where |z| is at most 0.172.
    z = (mantissa - math.sqrt(0.5)) / (mantissa + math.sqrt(0.5))
    square, series = z * z, np.full_like(z, 1 / 13)
    for odd in (11, 9, 7, 5, 3, 1):
        series = series * square + 1 / odd
    octaves = exponent - 0.5 + 2 / math.log(2) * z * series
    return np.asarray(10 * math.log10(2) * octaves, np.float32)


def _compute_sine_power(n_fft: int, sr: int, level_dbfs: float) -> float:
    """Return the power of a sine in a band below 1 kHz, where 3 mel are 200 Hz."""
    low, high = _compute_mel_range(sr)
    half_width_hz = (high - low) / (N_MELS + 1) * 200 / 3
    # Half of a Hann window's sum is n_fft / 4; a filter of area 1 is 1 / half_width high.
    return float((n_fft / 4) ** 2 / half_width_hz * 10 ** (level_dbfs / 10))


def _compute_mel_range(sr: int) -> tuple[float, float]:
    import librosa

    return float(librosa.hz_to_mel(FMIN_HZ)), float(librosa.hz_to_mel(sr / 2))


def _add_axes(figure: Figure, box_px: tuple[int, int, int, int]) -> Axes:
    """Add axes in a box (left, bottom, width, height), in the colours of the picture."""
    width_px, height_px = figure.get_size_inches() * DPI
    left, bottom, width, height = box_px
    axes = figure.add_axes(
        (left / width_px, bottom / height_px, width / width_px, height / height_px)
    )
    axes.set_facecolor(BACKGROUND)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _mark_time(axes: Axes, duration_s: float) -> None:
    room = max(2, int(axes.bbox.width / 150))
    step_s = next((step for step in TIME_STEPS_S if duration_s / step <= room), TIME_STEPS_S[-1])
    ticks = [i * step_s for i in range(int(duration_s / step_s + 1e-9) + 1)]
    axes.set_xticks(ticks, [_format_time(tick, step_s) for tick in ticks], **LABELS)
    axes.set_xlim(0.0, duration_s)
    axes.tick_params(axis="x", color=FOREGROUND, length=3, width=0.6, pad=4)


def _format_time(time_s: float, step_s: float) -> str:
    minutes, seconds = divmod(round(time_s, 1), 60)
    if minutes >= 60:
        return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{int(seconds):02d}"
    return f"{int(minutes)}:{seconds:04.1f}" if step_s < 1 else f"{int(minutes)}:{int(seconds):02d}"


def _mark_frequency(axes: Axes, sr: int) -> None:
    import librosa

    low, high = _compute_mel_range(sr)
    axes.set_ylim(low, high)
    shown: list[int] = []
    lowest_free: Any = low
    for hz in FREQUENCIES_HZ:
        if lowest_free <= librosa.hz_to_mel(hz) < high:
            shown.append(hz)
            room = LABEL_HEIGHT_PX / axes.bbox.height * (high - low)
            lowest_free = librosa.hz_to_mel(hz) + room
    labels = [f"{hz // 1000} kHz" if hz >= 1000 else f"{hz} Hz" for hz in shown]
    axes.set_yticks(librosa.hz_to_mel(shown), labels, **LABELS)
    axes.tick_params(axis="y", color=FOREGROUND, length=3, width=0.6, pad=4)


def _mark_beats(axes: Axes, times_s: list[float], duration_s: float) -> None:
    # Closer ticks would merge into a bar.
    if times_s and axes.bbox.width / duration_s * (duration_s / len(times_s)) >= 4:
        axes.vlines(
            times_s,
            1.014,
            1.028,
            transform=axes.get_xaxis_transform(),
            colors=BEAT,
            linewidths=0.8,
            clip_on=False,
        )


def _mark_level(bar: Axes, range_db: float) -> None:
    ticks = [-20.0 * i for i in range(int(range_db // 20) + 1)]
    labels = ["0 dB", *(f"\N{MINUS SIGN}{-tick:.0f}" for tick in ticks[1:])]
    bar.set_yticks(ticks, labels, **LABELS)
    bar.set_ylim(-range_db, 0.0)
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.tick_params(axis="y", color=FOREGROUND, length=0, pad=5)


def warm_up() -> None:
    """Make matplotlib find its fonts and build its scales, with a picture of silence."""
    import numpy as np

    spectrogram(Audio(y=np.zeros(1000, np.float32), sr=22_050))
