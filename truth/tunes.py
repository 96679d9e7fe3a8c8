"""Sound of one pitch at a time, at 16 kHz: computed glides and voices, and recorded instruments.

A voice is a pulse train with vibrato through three formants, in three registers, alone and in white
noise. The instruments are those of a sound font, one note after the other; each rings on after its
end, so what follows it counts neither as a pitch nor as none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mido
import numpy as np
import scipy.signal
import soundfile
import soxr

from truth.corpus import FONT
from truth.debian import unpack_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Signal = NDArray[np.float64]

SAMPLE_RATE_HZ = 16_000
STEP_S = 0.01
GLIDES_HZ = ((60, 240), (100, 800), (200, 1600), (1000, 2090))
GLIDE_S = 8.0
REGISTERS = {"bass": range(40, 56, 2), "alto": range(55, 75, 2), "soprano": range(62, 82, 2)}
# How much louder than the noise a voice is, in dB.
NOISES_DB = (None, 20, 10, 0)
NOTE_S, PAUSE_S = 0.5, 0.3
FORMANTS_HZ = ((700, 90), (1200, 110), (2600, 160))
VIBRATO_HZ, VIBRATO_SEMITONES = 5.5, 0.4
# Of General MIDI: the program, and the first key of two octaves.
INSTRUMENTS = {
    "piano": (0, 48),
    "guitar": (24, 43),
    "violin": (40, 55),
    "cello": (42, 36),
    "choir": (52, 48),
    "trumpet": (56, 55),
    "trombone": (57, 41),
    "horn": (60, 41),
    "oboe": (68, 60),
    "clarinet": (71, 52),
    "flute": (73, 60),
}
SCALE = (0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tune:
    """A sound, and its pitch.

    Attributes
    ----------
    name : str
        Its file is ``NAME.wav``: mono, at 16 kHz.
    set : str
    duration : float
        In seconds.
    f0_hz : list of (float or None)
        Every 10 ms: the pitch; 0 where there is none, and None where it is not known.
    """

    name: str
    set: str
    duration: float
    f0_hz: list[float | None]


def write_tunes(folder: Path, packages: Path) -> None:
    """Write all sounds and ``tunes.json``."""
    tunes = []
    for tune, y in (*list_glides(), *list_voices(), *list_instruments(packages)):
        soundfile.write(folder / f"{tune.name}.wav", y, SAMPLE_RATE_HZ, "PCM_16")
        tunes.append(tune)
    (folder / "tunes.json").write_text(json.dumps([asdict(tune) for tune in tunes]))


def read_tunes(folder: Path) -> list[Tune]:
    """Return what is true of the sounds of a folder."""
    return [Tune(**fields) for fields in json.loads((folder / "tunes.json").read_text())]


def describe(set_name: str, name: str, f0_hz: Signal) -> Tune:
    """Return a tune; pitches are of each sample, not a number where they are unknown."""
    chosen = f0_hz[:: round(STEP_S * SAMPLE_RATE_HZ)]
    return Tune(
        name=f"{set_name}_{name}".replace(" ", "_"),
        set=set_name,
        duration=len(f0_hz) / SAMPLE_RATE_HZ,
        f0_hz=[None if np.isnan(hz) else round(float(hz), 3) for hz in chosen],
    )


def list_glides() -> Iterator[tuple[Tune, Signal]]:
    """Yield glides of eleven harmonics."""
    t = np.arange(round(GLIDE_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    for low, high in GLIDES_HZ:
        f0_hz = low * (high / low) ** (t / GLIDE_S)
        yield describe("glides", f"{low}-{high}", f0_hz), 0.2 * add_harmonics(f0_hz, 11)


def add_harmonics(f0_hz: Signal, count: int) -> Signal:
    """Return harmonics below 7.6 kHz whose amplitudes fall by 6 dB an octave; 0 Hz is silent."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / SAMPLE_RATE_HZ
    y = np.zeros(len(f0_hz))
    for n in range(1, count + 1):
        y += np.where(n * f0_hz < 7_600, np.sin(n * phase) / n, 0)
    return y * (f0_hz > 0)


def list_voices() -> Iterator[tuple[Tune, Signal]]:
    """Yield synthesised voices, alone and in noise."""
    rng = np.random.default_rng(0)
    for noise_db in NOISES_DB:
        set_name = "voices" if noise_db is None else f"voices, noise {noise_db} dB below"
        for register, keys in REGISTERS.items():
            f0_hz = np.concatenate([sing(key) for key in keys])
            y = add_formants(f0_hz)
            if noise_db is not None:
                power = np.mean(y[f0_hz > 0] ** 2) / 10 ** (noise_db / 10)
                y = y + rng.normal(0, np.sqrt(power), len(y))
            name = f"{register}_{'alone' if noise_db is None else noise_db}"
            yield describe(set_name, name, f0_hz), y / max(1.0, float(np.abs(y).max()))


def sing(key: int) -> Signal:
    """Return the frequency of a note with vibrato, and of the pause after it, in Hz."""
    t = np.arange(round(NOTE_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    midi = key + VIBRATO_SEMITONES * np.sin(2 * np.pi * VIBRATO_HZ * t)
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ))
    return np.concatenate([440 * 2 ** ((midi - 69) / 12), pause])


def add_formants(f0_hz: Signal) -> Signal:
    """Return a pulse train through three formants, with edges of 20 ms; its peak is 0.4."""
    fade = np.hanning(320) / np.hanning(320).sum()
    y = add_harmonics(f0_hz, 60) * np.convolve(f0_hz > 0, fade, "same")
    for hz, width_hz in FORMANTS_HZ:
        radius = np.exp(-np.pi * width_hz / SAMPLE_RATE_HZ)
        turn = np.cos(2 * np.pi * hz / SAMPLE_RATE_HZ)
        y = scipy.signal.lfilter([1], [1, -2 * radius * turn, radius**2], y)
    return np.asarray(0.4 * y / np.abs(y).max())


def list_instruments(packages: Path) -> Iterator[tuple[Tune, Signal]]:
    """Yield scales on the instruments of a sound font."""
    from truth.soundfont import SAMPLE_RATE_HZ as PLAYED_AT_HZ
    from truth.soundfont import play

    font = unpack_package("fluid-soundfont-gm", packages) / FONT
    step = round((NOTE_S + PAUSE_S) * SAMPLE_RATE_HZ)
    for name, (program, first) in INSTRUMENTS.items():
        keys = [first + semitones for semitones in SCALE]
        y = play(write_scale(program, keys), font, len(keys) * (NOTE_S + PAUSE_S))
        y = soxr.resample(y, PLAYED_AT_HZ, SAMPLE_RATE_HZ, quality="HQ")
        f0_hz = np.full(len(keys) * step, np.nan)
        for number, key in enumerate(keys):
            end = number * step + round(NOTE_S * SAMPLE_RATE_HZ)
            f0_hz[number * step : end] = 440 * 2 ** ((key - 69) / 12)
        yield describe("instruments", name, f0_hz), np.asarray(y, np.float64)[: len(f0_hz)]


def write_scale(program: int, keys: list[int]) -> mido.MidiFile:
    """Return a piece with one note after the other, at 120 beats a minute."""
    piece = mido.MidiFile(ticks_per_beat=1000)
    track = mido.MidiTrack([mido.Message("program_change", program=program)])
    piece.tracks.append(track)
    pause = 0
    for key in keys:
        track.append(mido.Message("note_on", note=key, velocity=90, time=pause))
        track.append(mido.Message("note_off", note=key, time=round(2000 * NOTE_S)))
        pause = round(2000 * PAUSE_S)
    return piece
