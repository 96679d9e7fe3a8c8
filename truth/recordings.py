"""Recordings in stereo: singing, speech in three languages, and music without a voice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from truth.debian import unpack_package

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 44_100
SINGING = (  # the clips that are longer than 2 s, at 44.1 kHz
    *("Come-and-play", "Doy-doy-doy", "Got-inspiration", "Hey-yay-hey", "Oooo-badada"),
    "Sing-me-a-song",
)
LANGUAGES = ("en", "fr", "ru")
SPOKEN_S, PROMPTS = 20.0, 9  # a voice is every ninth of the longer prompts
PROMPT_BYTES = 80_000
GROWLED = "fretsonfire-songs-muldjord"
PLAYED = "fretsonfire-songs-sectoid"
ELECTRONIC = "singularity-music"


def read_stereo(path: Path, start_s: float = 0.0, seconds: float = 1e9) -> NDArray[np.float32]:
    """Return a part of a recording on two channels at 44.1 kHz [shape=(2, n)]."""
    with soundfile.SoundFile(path) as file:
        file.seek(min(file.frames, round(start_s * file.samplerate)))
        wanted = min(file.frames - file.tell(), round(seconds * file.samplerate))
        y = file.read(wanted, dtype="float32", always_2d=True)
        sr = file.samplerate
    y = soxr.resample(y[:, :2], sr, SAMPLE_RATE_HZ) if sr != SAMPLE_RATE_HZ else y[:, :2]
    return np.ascontiguousarray(np.broadcast_to(y.T, (2, len(y))), np.float32)


def read_singing(packages: Path) -> NDArray[np.float32]:
    """Return solo singing: clips of the children's program Scratch, one after the other."""
    folder = unpack_package("scratch", packages) / "usr/share/scratch/Media/Sounds/Vocals"
    return np.concatenate([read_stereo(folder / f"{name}.mp3") for name in SINGING], axis=1)


def read_speech(packages: Path) -> list[NDArray[np.float32]]:
    """Return two stretches of the prompts of Asterisk for each language."""
    voices = []
    for language in LANGUAGES:
        package = unpack_package(f"asterisk-core-sounds-{language}-wav", packages)
        prompts = [
            path
            for path in sorted(package.glob("usr/share/asterisk/sounds/*/*.wav"))
            if path.stat().st_size > PROMPT_BYTES
            and not path.stem.startswith(("beep", "silence", "tt-"))
        ]
        for first in (0, PROMPTS // 2):
            y = np.concatenate([read_stereo(path) for path in prompts[first::PROMPTS]], axis=1)
            voices.append(y[:, : round(SPOKEN_S * SAMPLE_RATE_HZ)])
    return voices


def list_electronic(packages: Path) -> list[Path]:
    """Return the electronic music of the game Singularity; it has no voice."""
    return sorted(unpack_package(ELECTRONIC, packages).glob("usr/share/**/*.ogg"))


def list_rock(packages: Path, package: str = PLAYED) -> list[Path]:
    """Return songs of a package of Frets on Fire, without the guitar of the player."""
    return sorted(unpack_package(package, packages).glob("usr/share/games/**/song.ogg"))


def list_music(packages: Path) -> list[Path]:
    """Return music without a voice."""
    return list_electronic(packages) + list_rock(packages)
