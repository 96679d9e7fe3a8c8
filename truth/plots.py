"""Draw the plots of docs/features.md: ``python -m truth.plots``, with the Python of Segue.

Each is what a job found in a recording of a package of Debian, drawn by matplotlib.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import soundfile
import soxr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

import segue
from segue.model.shipped_graphs import list_shipped_graphs
from truth.debian import unpack_package

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "features"
CACHE = Path("~/.cache/segue-truth").expanduser()
SIZE_INCHES = (8.0, 1.8)
STEPS = 500  # of a drawn waveform
INK, FAINT, WARM, COLD, LEAF = "#24292f", "#afb8c1", "#cf222e", "#0969da", "#1a7f37"
KINDS = {"speech": COLD, "singing": WARM, "music": LEAF}
SONG = "games/fretsonfire/data/songs/sectoid/Escape from chaosland/song.ogg"
PROMPT = "demo-congrats.wav"
SONG_SPAN_S, LONG_SPAN_S = (40.0, 52.0), (20.0, 140.0)


@dataclass(frozen=True)
class Recording:
    """A file, and its samples as mono."""

    path: Path
    y: NDArray[np.float32]
    sr: int

    def run(self, job: str, graph: str = "default") -> Any:
        """Return what a job finds in it."""
        return segue.run_job(job, self.path, graph=list_shipped_graphs()[graph]).value


def read(path: Path) -> Recording:
    """Read a file."""
    y, sr = soundfile.read(path, dtype="float32", always_2d=True)
    return Recording(path=path, y=y.mean(axis=1), sr=sr)


def write(path: Path, y: NDArray[np.float32], sr: int) -> Recording:
    """Write samples [shape=(n,) or (n, channels)] to a file, and read it."""
    soundfile.write(path, y, sr)
    return read(path)


def cut_song(path: Path, span_s: tuple[float, float]) -> Recording:
    """Write a part of the song to a file."""
    source = unpack_package("fretsonfire-songs-sectoid", CACHE / "packages") / "usr/share" / SONG
    y, sr = soundfile.read(source, dtype="float32")
    first, end = (round(at * sr) for at in span_s)
    return write(path, y[first:end], sr)


def mix_voice(path: Path, song: Recording) -> Recording:
    """Write 12 s to a file: a voice, then the same with music 5 dB below it, then music alone."""
    package = unpack_package("asterisk-core-sounds-en-wav", CACHE / "packages")
    (prompt,) = package.rglob(PROMPT)
    voice, sr = soundfile.read(prompt, dtype="float32")
    voice = soxr.resample(voice, sr, song.sr)
    y = np.zeros(12 * song.sr, np.float32)
    y[: 8 * song.sr] = voice[: 8 * song.sr]
    level = np.sqrt(np.mean(np.square(y[: 8 * song.sr])) / np.mean(np.square(song.y)))
    y[4 * song.sr :] += 10 ** (-5 / 20) * level * song.y[: 8 * song.sr]
    return write(path, y / np.abs(y).max() * 0.9, song.sr)


def draw_waveform(axes: Axes, recording: Recording, colour: str = FAINT) -> None:
    """Draw the peaks of a recording over time."""
    parts = np.array_split(recording.y, STEPS)
    lows, highs = (np.array([reduce(part) for part in parts]) for reduce in (np.min, np.max))
    times = np.linspace(0, len(recording.y) / recording.sr, STEPS)
    axes.fill_between(times, lows, highs, color=colour, linewidth=0)
    axes.set(xlim=(0, times[-1]), ylim=(-1, 1), yticks=[], xlabel="s")


def start(rows: int = 1, height: float = SIZE_INCHES[1]) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with one or more rows."""
    figure = Figure(figsize=(SIZE_INCHES[0], height), layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=rows > 1, squeeze=False)[:, 0]


def draw_beats(song: Recording) -> Figure:
    """Draw each beat, darker the surer it is."""
    figure, (axes,) = start()
    draw_waveform(axes, song)
    found = song.run("beats")
    for time_s, confidence in zip(found["beat_times_s"], found["beat_confidences"], strict=True):
        axes.axvline(time_s, color=WARM, alpha=0.2 + 0.8 * confidence)
    axes.set_title(f"{found['tempo_bpm']:.2f} BPM, confidence {found['confidence']:.2f}")
    return figure


def draw_downbeats(song: Recording) -> Figure:
    """Draw each beat, and higher and darker where a bar begins."""
    figure, (axes,) = start()
    draw_waveform(axes, song)
    found = song.run("downbeats", "rhythm")
    axes.vlines(found["beat_times_s"], -0.5, 0.5, color=COLD, linewidth=1)
    axes.vlines(found["downbeat_times_s"], -1, 1, color=WARM, linewidth=2)
    axes.set_title(f"{found['beats_per_bar']} beats to the bar")
    return figure


def draw_energy(song: Recording) -> Figure:
    """Draw the level of each beat as a step."""
    figure, (axes,) = start()
    beats, found = song.run("beats")["beat_times_s"], song.run("energy")
    edges = [*beats, len(song.y) / song.sr]
    axes.stairs(found["beat_rms_dbfs"], edges, color=WARM, baseline=None)
    axes.axhline(found["rms_dbfs"], color=FAINT)
    axes.set(xlim=(0, edges[-1]), xlabel="s", ylabel="dBFS")
    return figure


def draw_loudness(voice: Recording) -> Figure:
    """Draw the levels that are found beside the level of each 50 ms."""
    figure, (axes,) = start(height=2.4)
    found = voice.run("loudness")
    parts = np.array_split(voice.y, round(20 * len(voice.y) / voice.sr))
    rms = [20 * np.log10(max(1e-4, np.sqrt(np.mean(np.square(part))))) for part in parts]
    axes.plot(np.arange(len(parts)) / 20, rms, color=FAINT)
    for name, colour in (
        ("true_peak_dbtp", INK),
        ("momentary_max_lufs", WARM),
        ("short_term_max_lufs", LEAF),
        ("integrated_lufs", COLD),
    ):
        axes.axhline(found[name], color=colour, label=f"{name} {found[name]:.1f}")
    axes.set(xlim=(0, len(parts) / 20), ylim=(-60, 3), xlabel="s")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_key(long: Recording, folder: Path) -> Figure:
    """Draw the key of each 20 s of a song, and of the whole, as a strip."""
    figure, (axes,) = start()
    draw_waveform(axes, long)
    span = 20 * long.sr
    for number in range(len(long.y) // span):
        path = folder / f"part-{number}.wav"
        part = write(path, long.y[number * span : (number + 1) * span], long.sr).run("key")
        label = f"{part['key']} {part['mode']}\n{part['confidence']:.2f}" if part["key"] else "-"
        axes.axvline(20 * number, color=COLD)
        axes.text(20 * number + 10, 0, label, ha="center", va="center")
    whole = long.run("key")
    axes.set_title(f"the whole: {whole['key']} {whole['mode']}, {whole['confidence']:.2f}")
    return figure


def draw_danceability(long: Recording, folder: Path) -> Figure:
    """Draw the exponents of a song beside those of noise and of a drum machine."""
    figure, (axes,) = start(height=2.4)
    rng = np.random.default_rng(0)
    sr, beat = 22_050, np.zeros(11_025, np.float32)
    beat[:1_000] = rng.normal(0, 0.2, 1_000) * np.linspace(1, 0, 1_000)
    levels = np.repeat(rng.uniform(0, 0.2, 600), sr // 10)
    others = {
        "unsteady noise": levels * rng.normal(size=len(levels)),
        "a metronome": np.tile(beat, 120),
    }
    found = {"a song": long.run("danceability")}
    for name, y in others.items():
        found[name] = write(folder / f"{name}.wav", y.astype(np.float32), sr).run("danceability")
    for (name, one), colour in zip(found.items(), (WARM, FAINT, COLD), strict=True):
        label = f"{name}: {one['danceability']:.2f}"
        count = len(one["dfa_exponents"])
        axes.plot(one["window_s"][:count], one["dfa_exponents"], color=colour, label=label)
    axes.set(xlabel="window, s", ylabel="exponent")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_speech(voice: Recording) -> Figure:
    """Draw the segments of each kind below the waveform."""
    figure, (axes,) = start()
    draw_waveform(axes, voice)
    found = voice.run("speech", "speech")
    for row, (kind, colour) in enumerate(KINDS.items()):
        spans = [
            (one["start_s"], one["end_s"] - one["start_s"])
            for one in found["segments"]
            if one["kind"] == kind
        ]
        axes.broken_barh(spans, (-1.5 - row * 0.5, 0.4), color=colour)
    axes.set(ylim=(-2.6, 1), yticks=[-1.3, -1.8, -2.3], yticklabels=list(KINDS))
    return figure


def draw_separation(voice: Recording, folder: Path) -> Figure:
    """Draw the waveforms of the mix and of both parts."""
    figure, rows = start(3, height=3.2)
    found = voice.run("separation", "separation")
    draw_waveform(rows[0], voice, INK)
    for axes, name, colour in zip(rows[1:], ("vocals", "accompaniment"), (COLD, LEAF), strict=True):
        part = write(folder / f"{name}.wav", found[name].y.T, found[name].sr)
        draw_waveform(axes, part, colour)
    for axes, name in zip(rows, ("mix", "vocals", "accompaniment"), strict=True):
        axes.set(ylabel=name, xlabel="s" if axes is rows[-1] else "")
    return figure


def draw_tags(long: Recording) -> Figure:
    """Draw the ten most probable tags as bars."""
    figure, (axes,) = start(height=2.6)
    first = long.run("tags", "tags")["tags"][:10][::-1]
    axes.barh([one["name"] for one in first], [one["value"] for one in first], color=COLD)
    axes.set(xlim=(0, 1), xlabel="value")
    return figure


def draw_pitch(voice: Recording) -> Figure:
    """Draw the contour."""
    figure, (axes,) = start(height=2.4)
    found = voice.run("pitch", "melody")
    f0_hz = np.array(found["contour"]["f0_hz"].to_pylist(), dtype=float)
    times = np.arange(len(f0_hz)) * found["summary"]["hop_s"]
    axes.plot(times, f0_hz, color=WARM)
    axes.axhline(found["summary"]["median_hz"], color=FAINT)
    axes.set(xlim=(0, times[-1]), xlabel="s", ylabel="Hz")
    return figure


def draw_notes(song: Recording) -> Figure:
    """Draw the notes as a piano roll, darker the surer they are."""
    figure, (axes,) = start(height=3.0)
    notes = song.run("notes", "melody")["notes"]
    for note in notes:
        axes.plot(
            [note["start_s"], note["end_s"]],
            [note["midi"]] * 2,
            color=COLD,
            alpha=note["confidence"],
            linewidth=3,
            solid_capstyle="butt",
        )
    axes.set(xlim=(0, len(song.y) / song.sr), xlabel="s", ylabel="MIDI key")
    return figure


def draw_spectrogram(song: Recording) -> Image.Image:
    """Return the picture, half as large, and in as many colours as a page needs."""
    picture = Image.fromarray(song.run("spectrogram")).convert("RGB")
    return picture.resize((picture.width // 2, picture.height // 2)).quantize(64)


def draw_all(folder: Path) -> Mapping[str, Callable[[], Figure | Image.Image]]:
    """Return how each picture is drawn, by the name of its job."""
    song = cut_song(folder / "song.wav", SONG_SPAN_S)
    long = cut_song(folder / "long.wav", LONG_SPAN_S)
    voice = mix_voice(folder / "voice.wav", song)
    return {
        "loudness": lambda: draw_loudness(voice),
        "beats": lambda: draw_beats(song),
        "downbeats": lambda: draw_downbeats(song),
        "spectrogram": lambda: draw_spectrogram(song),
        "energy": lambda: draw_energy(song),
        "key": lambda: draw_key(long, folder),
        "danceability": lambda: draw_danceability(long, folder),
        "speech": lambda: draw_speech(voice),
        "separation": lambda: draw_separation(voice, folder),
        "tags": lambda: draw_tags(long),
        "pitch": lambda: draw_pitch(voice),
        "notes": lambda: draw_notes(song),
    }


def save(figure: Figure | Image.Image, name: str) -> Path:
    """Write a figure as SVG, without a time and with text as text; a picture as PNG."""
    if isinstance(figure, Image.Image):
        path = FOLDER / f"{name}.png"
        figure.save(path, optimize=True)
        return path
    path = FOLDER / f"{name}.svg"
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none", "font.size": 9}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    lines = (line.rstrip() for line in buffer.getvalue().splitlines())
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> int:
    """Draw the pictures that are named, or all."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pictures = draw_all(Path(scratch))
        if unknown := set(sys.argv[1:]) - set(pictures):
            print(
                f"there is no plot {min(unknown)!r}; choose from {list(pictures)}", file=sys.stderr
            )
            return 2
        for name in sys.argv[1:] or pictures:
            print(save(pictures[name](), name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
