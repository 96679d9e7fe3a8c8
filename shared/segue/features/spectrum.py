"""A mel spectrogram as a picture, for people to look at.

Time runs to the right, frequency upwards on the mel scale, which is linear below 1 kHz and
logarithmic above, like perceived pitch. Brightness is power in dB below the loudest point of the
file. If the beats are given, they are marked along the upper edge.
"""

from __future__ import annotations

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

PRELOAD = ("librosa", "scipy.fft", "segue.features.spectrum:warm_up")

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

FMIN_HZ = 27.5  # the lowest A of a piano
N_MELS = 224
BYTES_PER_FRAME = 4 * N_MELS  # of the whole spectrogram, from which the columns are averaged
# Two frames per column are enough to see an attack; in a long file the window limits the hop.
FRAMES_PER_COLUMN = 2
SHORTEST_HOP = 32
# The loudest point is white, unless it is quieter than a sine of this level: then it is dim.
# Otherwise the noise of a silent file would look loud.
QUIETEST_SUBJECT_DBFS = -60.0

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
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if width_px < 400 or height_px < 200:
        raise ConfigurationError(
            f"spectrogram: a picture of {width_px} by {height_px} pixels has no room for its axes: "
            "use at least 400 by 200"
        )
    figure = Figure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI, facecolor=BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    tall_px = height_px - BELOW_PX - ABOVE_PX
    axes = _add_axes(figure, (LEFT_PX, BELOW_PX, width_px - LEFT_PX - RIGHT_PX, tall_px))
    levels = _compute_levels_db(audio, int(axes.bbox.width))
    picture = axes.imshow(
        levels,
        origin="lower",
        aspect="auto",
        interpolation="bilinear",
        cmap="magma",
        vmin=-range_db,
        vmax=0.0,
        extent=(0.0, audio.duration_s, *_compute_mel_range(audio.sr)),
    )
    _mark_time(axes, audio.duration_s)
    _mark_frequency(axes, audio.sr)
    if beats is not None:
        _mark_beats(axes, beats["beat_times_s"], audio.duration_s)
    bar = _add_axes(figure, (width_px - RIGHT_PX + 16, BELOW_PX, 10, tall_px))
    figure.colorbar(picture, cax=bar)
    _mark_level(bar, range_db)
    canvas.draw()  # type: ignore[no-untyped-call] # matplotlib has no types for it
    return np.array(np.asarray(canvas.buffer_rgba())[..., :3])  # type: ignore[no-untyped-call]


def _compute_levels_db(audio: Audio, columns: int) -> NDArray[np.float32]:
    """Return the picture [shape=(bands, columns)] in dB; short files have fewer columns."""
    import librosa
    import numpy as np

    n_fft = 2 ** round(np.log2(audio.sr * 0.093))  # 2048 at 22.05 kHz
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
    return np.asarray(librosa.power_to_db(S, ref=loudest, amin=loudest * 1e-10, top_db=None))


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
    bar.tick_params(axis="y", color=FOREGROUND, length=0, pad=5)


def warm_up() -> None:
    """Make matplotlib find its fonts and build its scales, with a picture of silence."""
    import numpy as np

    spectrogram(Audio(y=np.zeros(1000, np.float32), sr=22_050))
