"""Recorded speech, alone and over music, music without a voice, and singing, at 16 kHz.

Speech: prompts of the telephone exchange Asterisk in five languages, by professional speakers, at
8 kHz; half a minute of them at a time, with pauses of 0.6 to 2 s. Where there is speech is measured
on each prompt alone: a frame of 10 ms is speech if it is within 38 dB of the loudest of its prompt,
and so are pauses of up to 200 ms.

Music: 30 s from the middle of each piece of the soundtracks of two games. Singing: short clips
without accompaniment, of the programming language Scratch.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from truth.debian import unpack_package

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Signal = NDArray[np.float64]

SAMPLE_RATE_HZ = 16_000
HOP_LENGTH = 160  # 10 ms
LANGUAGES = ("en", "es", "fr", "it", "ru")
# By how much speech is louder than the music, in dB.
LEVELS_DB = (10, 5, 0, -5, -10)
SINGING_LEVELS_DB = (5, 0, -5)
FILES, MIXED_FILES = 6, 3  # of a language
LONG_S = 28.0
MUSIC_S = 30.0
RMS = 0.05
SHORTEST_BYTES = 32_000  # 2 s
NO_SPEECH = ("silence", "tone", "beep", "monkeys")
NO_SINGING = {"BeatBox1", "BeatBox2", "Ya"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A sound, and what is true of it.

    Attributes
    ----------
    name : str
        Its file is ``NAME.wav``: mono, 16 bit, at 16 kHz.
    set : str
    duration : float
        In seconds.
    speech : list of (float, float)
        Where there is speech, in seconds.
    has_voice : bool
    language : str or None
        The code of what is spoken.
    text : str or None
        What is spoken; None if it is not known.
    """

    name: str
    set: str
    duration: float
    speech: list[tuple[float, float]]
    has_voice: bool
    language: str | None = None
    text: str | None = None


def write_voices(folder: Path, packages: Path) -> None:
    """Write all sounds and ``voices.json``."""
    rng = np.random.default_rng(11)
    music = dict(read_music(packages))
    voices = []

    def add(voice: Voice, y: Signal) -> None:
        y = y / max(1.0, float(np.abs(y).max()))
        soundfile.write(folder / f"{voice.name}.wav", y, SAMPLE_RATE_HZ, "PCM_16")
        voices.append(voice)

    spoken = [join_prompts(code, i, packages, rng) for code in LANGUAGES for i in range(FILES)]
    for voice, y in spoken:
        add(voice, y)
    backings = list(music.values())
    mixed = [one for i, one in enumerate(spoken) if i % FILES < MIXED_FILES]
    for number, level_db in enumerate(LEVELS_DB):
        for i, (voice, y) in enumerate(mixed):
            backing = backings[(number * len(mixed) + i) % len(backings)]
            level = f"{level_db:+d} dB" if level_db else "0 dB"
            name = f"{voice.name} {level}".replace(" ", "_")
            made = {**asdict(voice), "name": name, "set": f"speech {level}"}
            add(Voice(**made), mix(y, select(y, voice.speech), backing, level_db))
    for name, y in music.items():
        add(describe("music", name, y, has_voice=False), y)
    for name, y in read_singing(packages):
        add(describe("singing", name, y, has_voice=True), y)
        for number, level_db in enumerate(SINGING_LEVELS_DB):
            mixture = mix(y, y, backings[(len(voices) + number) % len(backings)], level_db)
            named = f"{name}_{level_db:+d}_dB"
            add(describe("singing over music", named, y, has_voice=True), mixture)
    (folder / "voices.json").write_text(json.dumps([asdict(voice) for voice in voices]))


def read_voices(folder: Path) -> list[Voice]:
    """Return what is true of the sounds of a folder."""
    return [Voice(**fields) for fields in json.loads((folder / "voices.json").read_text())]


def describe(set_name: str, name: str, y: Signal, *, has_voice: bool) -> Voice:
    """Return what is true of a sound without speech."""
    return Voice(
        name=f"{set_name}_{name}".replace(" ", "_"),
        set=set_name,
        duration=len(y) / SAMPLE_RATE_HZ,
        speech=[],
        has_voice=has_voice,
    )


def read_sound(path: Path) -> Signal:
    """Return a sound, mono, at 16 kHz."""
    y, sr = soundfile.read(path, always_2d=True)
    return np.asarray(soxr.resample(y.mean(axis=1), sr, SAMPLE_RATE_HZ, quality="HQ"))


def read_texts(packages: Path) -> dict[str, str]:
    """Return what the English prompts say, by the names of their files."""
    package = unpack_package("asterisk-core-sounds-en", packages)
    (file,) = package.glob("usr/share/doc/*/core-sounds-en.txt.gz")
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    pairs = (line.partition(":") for line in lines if not line.startswith(";"))
    return {name.strip(): text.strip() for name, colon, text in pairs if colon}


def list_prompts(language: str, packages: Path) -> list[Path]:
    """Return the prompts of a language that are long enough."""
    package = unpack_package(f"asterisk-core-sounds-{language}-wav", packages)
    return [
        path
        for path in sorted(package.glob("usr/share/asterisk/sounds/*/*.wav"))
        if path.stat().st_size > SHORTEST_BYTES and not any(word in path.name for word in NO_SPEECH)
    ]


def join_prompts(
    language: str, number: int, packages: Path, rng: np.random.Generator
) -> tuple[Voice, Signal]:
    """Return half a minute of prompts that no other number has, in the order of a hash."""
    texts = read_texts(packages) if language == "en" else {}
    paths = [
        path
        for path in list_prompts(language, packages)
        if language != "en" or "[" not in texts.get(path.stem, "[")
    ]
    order = np.random.default_rng(7).permutation(len(paths))
    parts, speech, said, samples = [], [], [], 0
    for index in order[number::FILES]:
        pause = round(rng.uniform(0.6, 2.0) * 100) * HOP_LENGTH
        y, heard = cut_prompt(read_sound(paths[index]))
        parts += [np.zeros(pause), y]
        at = (samples + pause) / SAMPLE_RATE_HZ
        speech += [(round(at + a, 2), round(at + b, 2)) for a, b in list_runs(heard)]
        said.append(texts.get(paths[index].stem, ""))
        samples += pause + len(y)
        if samples >= LONG_S * SAMPLE_RATE_HZ:
            break
    voice = Voice(
        name=f"speech_{language}_{number}",
        set="speech",
        duration=samples / SAMPLE_RATE_HZ,
        speech=speech,
        has_voice=True,
        language=language,
        text=" ".join(said) if texts else None,
    )
    return voice, np.concatenate(parts) + rng.normal(0, 5e-4, samples)


def measure_levels(y: Signal) -> Signal:
    """Return the root mean square of each 10 ms."""
    frames = y[: len(y) // HOP_LENGTH * HOP_LENGTH].reshape(-1, HOP_LENGTH)
    return np.sqrt((frames**2).mean(axis=1) + 1e-12)


def cut_prompt(y: Signal) -> tuple[Signal, NDArray[np.bool_]]:
    """Return a prompt without the silence around it, at -26 dBFS, and which frames are speech."""
    levels = measure_levels(y)
    loud = np.flatnonzero(levels > levels.max() * 10 ** (-32 / 20))
    first, last = loud[0], loud[-1] + 1
    y, levels = y[first * HOP_LENGTH : last * HOP_LENGTH], levels[first:last]
    heard = levels > levels.max() * 10 ** (-38 / 20)
    marks = np.flatnonzero(heard)
    for before, after in itertools.pairwise(marks):
        if after - before <= 20:
            heard[before:after] = True
    return y * (RMS / np.sqrt((y**2).mean())), heard


def list_runs(present: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return where frames are true, in seconds."""
    edges = np.flatnonzero(np.diff(present.astype(np.int8), prepend=0, append=0)) / 100
    return [(float(a), float(b)) for a, b in edges.reshape(-1, 2)]


def select(y: Signal, stretches: list[tuple[float, float]]) -> Signal:
    """Return the samples of some stretches alone."""
    edges = [(round(a * SAMPLE_RATE_HZ), round(b * SAMPLE_RATE_HZ)) for a, b in stretches]
    return np.concatenate([y[a:b] for a, b in edges])


def mix(y: Signal, loud: Signal, backing: Signal, level_db: float) -> Signal:
    """Return a voice over music; the loud part of it is louder than that by a level."""
    backing = np.resize(backing, len(y))
    gain = np.sqrt((loud**2).mean() / (backing**2).mean()) / 10 ** (level_db / 20)
    return 0.5 * (y + gain * backing)


def read_music(packages: Path) -> Iterator[tuple[str, Signal]]:
    """Yield the names and the excerpts of music."""
    for name in ("singularity-music", "hyperrogue-music"):
        for path in sorted(unpack_package(name, packages).glob("usr/share/**/*.ogg")):
            y = read_sound(path)
            half = round(MUSIC_S * SAMPLE_RATE_HZ / 2)
            y = y[max(0, len(y) // 2 - half) : len(y) // 2 + half]
            if len(y) == 2 * half and np.abs(y).max() > 0:
                yield path.stem, y * (2 * RMS / np.sqrt((y**2).mean()))


def read_singing(packages: Path) -> Iterator[tuple[str, Signal]]:
    """Yield the names and the clips of singing."""
    folder = unpack_package("scratch", packages) / "usr/share/scratch/Media/Sounds/Vocals"
    for path in sorted(folder.iterdir()):
        if path.stem not in NO_SINGING:
            y = read_sound(path)
            yield path.stem, y * (RMS / np.sqrt((y**2).mean()))
