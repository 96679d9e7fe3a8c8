"""The catalogue of the demo: music and tones with known properties, and three broken files."""

from __future__ import annotations

import os
from dataclasses import dataclass

from segue.testing.music import music
from segue.testing.sound import sine_at_lufs, tone, write


@dataclass(frozen=True, slots=True, kw_only=True)
class Song:
    """One file of the catalogue, with its true properties."""

    name: str
    bpm: float | None = None
    lufs: float | None = None
    broken: str | None = None  # what is wrong with it


SONGS = (
    Song(name="Les Éclairs/Première Neige.mp3", bpm=96),
    Song(name="Les Éclairs/Minuit.flac", bpm=120),
    Song(name="night bus/01 Terminal.ogg", bpm=128),
    Song(name="night bus/02 Last Stop.m4a", bpm=104),
    Song(name="東京/雨.wav", bpm=110),
    Song(name="signals/minus 23 LUFS.wav", lufs=-23.0),
    Song(name="signals/telephone 8 kHz mono.wav"),
    Song(name="signals/studio 96 kHz stereo.flac"),
    Song(name="broken/truncated.flac", broken="cut off in the middle"),
    Song(name="broken/empty.mp3", broken="no bytes"),
    Song(name="broken/notes.mp3", broken="a text with the wrong name"),
)

# Files that are added later, while the demo watches.
ENCORE = (Song(name="Rappel.flac", bpm=126), Song(name="Bis.flac", bpm=88))


def make_catalogue(folder: str, *, duration_s: float = 20.0) -> None:
    """Write the catalogue, with the same bytes each time."""
    for number, song in enumerate(SONGS):
        path = os.path.join(folder, song.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if song.bpm is not None:
            write(music(number, bpm=song.bpm, duration_s=duration_s), path)
        elif song.lufs is not None:
            write(sine_at_lufs(song.lufs, duration_s=10.0, sr=48000), path)
    write(
        tone(440, 6.0, sr=8000, fade_s=0.1),
        os.path.join(folder, "signals/telephone 8 kHz mono.wav"),
    )
    write(
        tone(1000, 6.0, sr=96000, channels=2, fade_s=0.1),
        os.path.join(folder, "signals/studio 96 kHz stereo.flac"),
    )
    with open(os.path.join(folder, "Les Éclairs/Minuit.flac"), "rb") as file:
        whole = file.read()
    with open(os.path.join(folder, "broken/truncated.flac"), "wb") as file:
        file.write(whole[: len(whole) // 3])
    with open(os.path.join(folder, "broken/empty.mp3"), "wb"):
        pass
    with open(os.path.join(folder, "broken/notes.mp3"), "w", encoding="utf-8") as file:
        file.write("verse, chorus, verse\n" * 30)


def make_encore(folder: str, *, duration_s: float = 10.0) -> None:
    """Write the files that are added later to a folder."""
    os.makedirs(folder, exist_ok=True)
    for number, song in enumerate(ENCORE, start=len(SONGS)):
        assert song.bpm is not None
        write(music(number, bpm=song.bpm, duration_s=duration_s), os.path.join(folder, song.name))
