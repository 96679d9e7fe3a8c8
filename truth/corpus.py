"""Sound with known beats: what it is made of, and which part of it is for tests alone.

Write it all with ``python -m truth.corpus FOLDER``. The sets:

- ``clicks``, ``drums``, ``moving``, ``without-tempo``: computed (truth/synthesis.py)
- ``songs``: recorded songs with charts (truth/songs.py)
- ``openttd``, ``freedoom``: composed music of games, MIDI files whose notes keep
  to their own notation (truth/midi.py), played by a sound font
- ``grooves``: accompaniments in many styles (truth/grooves.py), played by the same

The sets that trackers were tuned on belong to the split ``development``. ``grooves`` and
``freedoom`` are halved by a hash of the name: what is in ``test`` is not for tuning.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mido
import numpy as np
import soundfile
import soxr

from truth import grooves, synthesis
from truth.debian import unpack_package
from truth.midi import (
    Beats,
    keeps_to_its_bars,
    keeps_to_its_beats,
    list_beats,
    list_notes,
)
from truth.songs import list_songs, mix_stems, read_beats
from truth.wad import read_music

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 22_050
LONGEST_S = 120.0
HALVED = ("grooves", "freedoom")
FONT = "usr/share/sounds/sf2/FluidR3_GM.sf2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A sound and what is true of it.

    Attributes
    ----------
    name : str
        Its file is ``NAME.wav``: mono, 16 bit, at 22.05 kHz.
    set : str
    split : str
        ``development`` or ``test``.
    bpm : float or None
        Beats a minute: of the median distance of beats; None without tempo.
    beats : list of float
        In seconds.
    downbeats : list of float or None
        The first beats of bars, in seconds; None where nothing reliable says them.
    beats_per_bar : int or None
    duration : float
        In seconds.
    """

    name: str
    set: str
    split: str
    bpm: float | None
    beats: list[float]
    downbeats: list[float] | None
    beats_per_bar: int | None
    duration: float


def split_of(set_name: str, name: str) -> str:
    """Return to which split a name belongs: of halved sets, to either by the name's hash."""
    if set_name not in HALVED:
        return "development"
    return ("development", "test")[grooves.hash_name(f"split of {set_name}/{name}") % 2]


def describe(
    set_name: str,
    name: str,
    y: NDArray[np.float32],
    beats: NDArray[np.float64],
    downbeats: NDArray[np.float64] | None = None,
    beats_per_bar: int | None = None,
) -> tuple[Item, NDArray[np.float32]]:
    """Return an item with its sound; times are rounded to a tenth of a millisecond."""
    item = Item(
        name=f"{set_name}_{name}".replace("/", "_").replace(" ", "_"),
        set=set_name,
        split=split_of(set_name, name),
        bpm=round(60 / float(np.median(np.diff(beats))), 4) if len(beats) > 1 else None,
        beats=[round(float(beat), 4) for beat in beats],
        downbeats=None if downbeats is None else [round(float(beat), 4) for beat in downbeats],
        beats_per_bar=beats_per_bar,
        duration=len(y) / SAMPLE_RATE_HZ,
    )
    return item, y


Made = tuple[Item, "NDArray[np.float32]"]
Maker = tuple[Callable[..., "Made | None"], tuple[object, ...]]


def make_computed() -> Iterator[Maker]:
    """Return what makes the computed sounds."""
    for bpm in synthesis.TEMPI_BPM:
        yield make_clicks, (bpm,)
        for pattern in synthesis.PATTERNS:
            yield make_drums, ("drums", f"{pattern}_{bpm}", pattern, synthesis.steady_beats(bpm))
    for name, beats in synthesis.list_moving().items():
        yield make_drums, ("moving", name, "eighths", beats)
    for name, y in synthesis.list_without_tempo().items():
        yield describe, ("without-tempo", name, y, np.zeros(0))


def make_clicks(bpm: float) -> Made:
    """Return clicks, all alike: they have no bars."""
    y, beats = synthesis.click_track(bpm)
    return describe("clicks", str(bpm), y, beats)


def make_drums(set_name: str, name: str, pattern: str, beats: NDArray[np.float64]) -> Made:
    """Return drums; whether a bar has two beats or four is heard in the pattern ``rock`` alone."""
    y = synthesis.drums(pattern, beats)
    if pattern == "rock":
        return describe(set_name, name, y, beats, beats[::4], 4)
    return describe(set_name, name, y, beats)


def make_song(folder: Path) -> Made:
    """Return a recorded song."""
    y = mix_stems(folder)
    return describe("songs", folder.name, y, read_beats(folder, y))


def make_speech(file: Path) -> Made:
    """Return recorded speech."""
    y, sr = soundfile.read(file, dtype="float32")
    y = np.asarray(soxr.resample(y, sr, SAMPLE_RATE_HZ, quality="HQ"), dtype=np.float32)
    return describe("without-tempo", f"speech-{file.stem}", y, np.zeros(0))


def make_piece(set_name: str, name: str, data: bytes, font: Path) -> Made | None:
    """Return a composed piece of music; None if its notes do not keep to its notation."""
    piece = mido.MidiFile(file=io.BytesIO(data))
    notes = list_notes(piece)
    beats = list_beats(piece, int(notes.onset.max()))
    if not keeps_to_its_beats(notes, beats):
        return None
    from truth.soundfont import play

    y = play(piece, font, LONGEST_S)
    # There is no beat before the first note, nor after the last one, nor after the cut.
    heard = (beats.ticks >= notes.onset.min() - piece.ticks_per_beat / 24) & (
        beats.times_s < min(LONGEST_S, len(y) / SAMPLE_RATE_HZ)
    )
    first = first_beats(beats, heard) if keeps_to_its_bars(notes, beats) else None
    per_bar = beats.beats_per_bar if first is not None else None
    return describe(set_name, name, y, beats.times_s[heard], first, per_bar)


def first_beats(beats: Beats, heard: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the first beats of the bars that are heard."""
    assert beats.position is not None
    return beats.times_s[heard & (beats.position == 0)]


def make_groove(groove: grooves.Groove, program: Path, font: Path) -> Made:
    """Return an accompaniment."""
    from truth.soundfont import play

    piece, bars = grooves.write_piece(groove, program)
    y = play(piece, font, LONGEST_S)
    beats = np.arange(bars * groove.beats_per_bar) * 60 / groove.bpm
    beats = beats[beats < min(LONGEST_S, len(y) / SAMPLE_RATE_HZ)]
    first = beats[:: groove.beats_per_bar]
    return describe("grooves", groove.name, y, beats, first, groove.beats_per_bar)


def list_makers(packages: Path) -> list[Maker]:
    """Return what makes each item of the corpus; the packages are downloaded if need be."""
    font = unpack_package("fluid-soundfont-gm", packages) / FONT
    makers = list(make_computed())
    speech = unpack_package("asterisk-core-sounds-en-wav", packages)
    for name in ("demo-congrats", "demo-instruct", "tt-monkeys", "vm-options"):
        (file,) = speech.glob(f"usr/share/asterisk/sounds/*/{name}.wav")
        makers.append((make_speech, (file,)))
    for package in ("fretsonfire-songs-muldjord", "fretsonfire-songs-sectoid"):
        makers += [
            (make_song, (folder,)) for folder in list_songs(unpack_package(package, packages))
        ]
    folder = unpack_package("openttd-openmsx", packages)
    makers += [
        (make_piece, ("openttd", file.stem, file.read_bytes(), font))
        for file in sorted(folder.glob("usr/share/**/*.mid"))
    ]
    doom = unpack_package("freedoom", packages)
    seen: set[bytes] = set()
    for wad in ("freedoom1", "freedoom2"):
        music = read_music((doom / f"usr/share/games/doom/{wad}.wad").read_bytes())
        for lump, data in sorted(music.items()):
            if data not in seen:
                seen.add(data)
                makers.append((make_piece, ("freedoom", f"{wad}/{lump}", data, font)))
    program = unpack_package("mma", packages)
    makers += [
        (make_groove, (groove, program, font))
        for groove in grooves.choose_grooves(program / "usr/share/mma/lib")
    ]
    return makers


def make_item(maker: Maker, folder: Path) -> Item | None:
    """Make one item and write its sound."""
    function, arguments = maker
    made = function(*arguments)
    if made is None:
        return None
    item, y = made
    soundfile.write(folder / f"{item.name}.wav", np.clip(y, -1, 1), SAMPLE_RATE_HZ, "PCM_16")
    return item


def write_corpus(folder: Path, packages: Path) -> list[Item]:
    """Write all sounds, ``items.json`` and ``items-test.json``; return the items.

    ``items.json`` has the items of the split ``development``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    makers = list_makers(packages)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(make_item, makers, [folder] * len(makers))
        items = []
        for index, item in enumerate(made):
            print(f"\r{index + 1} of {len(makers)} sounds", end="", file=sys.stderr, flush=True)
            if item is not None:
                items.append(item)
    print(file=sys.stderr)
    for name, split in (("items.json", "development"), ("items-test.json", "test")):
        chosen = [asdict(item) for item in items if item.split == split]
        (folder / name).write_text(json.dumps(chosen))
    (folder / "READY").touch()
    return items


def read_items(folder: Path) -> list[Item]:
    """Return the items of a corpus."""
    return [
        Item(**fields)
        for name in ("items.json", "items-test.json")
        for fields in json.loads((folder / name).read_text())
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the corpus.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packages", type=Path, default=Path("~/.cache/segue-truth").expanduser())
    arguments = parser.parse_args()
    write_corpus(arguments.folder, arguments.packages)
