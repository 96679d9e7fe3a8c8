"""Accompaniments in a known key and tuning, written by Debian's mma and played by a sound font.

A progression of chords in any of the 24 keys goes round for 30 s, in a quarter of the corpus's
styles, by a hash of the name: nothing was tuned on these. The tuning is A = 440 Hz, or up to 45
cents above or below.

Some progressions are shared by two keys, such as those of A minor without its leading note with C
major: which of the two is meant cannot be heard for certain, so they are a set of their own.
"""

from __future__ import annotations

import json
import os
import random
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from truth.corpus import FONT
from truth.debian import unpack_package
from truth.grooves import Groove, choose_grooves, hash_name, write_piece

SAMPLE_RATE_HZ = 22_050
HEARD_S = 30.0
MOST_CENTS = 45
TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
ROOTS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")  # as MMA names them
# Semitones above the tonic, and the kind of chord.
PROGRESSIONS = {
    "major": (
        "0 9m 5 7",
        "0 7 9m 5",
        "0 5 7 0",
        "0 9m 2m7 7:7 4m7 9:7 2m7 7:7",
        "0 5 0 7:7",
        "2m7 7:7 0M7 0M7",
        "9m 5 0 7",
        "0M7 4m7 5 7",
        "0 10 5 0",
        "0 0 5 0 7:7 5 0 7:7",
    ),
    "minor": (
        "0m 5m 7m 0m",
        "0m 8 3 10",
        "0m 5m 7:7 0m",
        "0m 10 8 7:7",
        "0m 2m7b5 7:7 0m",
        "0m 5m7 10 3",
        "0m7 5m7 0m7 7m7",
        "0m 8 5m 7:7",
        "5m 7:7 0m 0m",
        "8 10 0m 0m",
    ),
}
SHARED = {"0m 8 3 10", "0m 5m7 10 3", "9m 5 0 7", "0 10 5 0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedPiece:
    """A sound, and its key.

    Attributes
    ----------
    name : str
        Its file is ``NAME.wav``: mono, 16 bit, at 22.05 kHz.
    set : str
    duration : float
        In seconds.
    tonic : str
        As the job names it.
    mode : str
    tuning_cents : float
        Above A = 440 Hz.
    """

    name: str
    set: str
    duration: float
    tonic: str
    mode: str
    tuning_cents: float


def write_keys(folder: Path, packages: Path) -> None:
    """Write all sounds and ``keys.json``."""
    font = unpack_package("fluid-soundfont-gm", packages) / FONT
    program = unpack_package("mma", packages)
    grooves = choose_grooves(program / "usr/share/mma/lib")
    tested = [one for one in grooves if hash_name(f"{one.name}split") % 4 == 1]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        count = len(tested)
        made = pool.map(write_key, tested, [folder] * count, [program] * count, [font] * count)
        (folder / "keys.json").write_text(json.dumps([asdict(piece) for piece in made]))


def read_keys(folder: Path) -> list[KeyedPiece]:
    """Return what is true of the sounds of a folder."""
    return [KeyedPiece(**fields) for fields in json.loads((folder / "keys.json").read_text())]


def write_key(groove: Groove, folder: Path, program: Path, font: Path) -> KeyedPiece:
    """Write an accompaniment in a key that depends on nothing but the style's name."""
    from truth.soundfont import play

    rng = random.Random(hash_name(f"{groove.name}key"))
    mode = rng.choice(["major", "minor"])
    tonic = rng.randrange(12)
    progression = rng.choice(PROGRESSIONS[mode])
    cents = rng.choice([0, 0, rng.uniform(-MOST_CENTS, MOST_CENTS)])
    chords = [name_chord(chord, tonic) for chord in progression.split()]
    piece, _ = write_piece(groove, program, chords)
    y = play(piece, font, HEARD_S)
    y = soxr.resample(y, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * 2 ** (-cents / 1200), quality="HQ")
    y = y * min(1.0, 0.98 / float(np.abs(y).max()))
    name = groove.name.replace("/", "_").replace(" ", "_")
    soundfile.write(folder / f"{name}.wav", y, SAMPLE_RATE_HZ, "PCM_16")
    return KeyedPiece(
        name=name,
        set="shared chords" if progression in SHARED else "accompaniments",
        duration=len(y) / SAMPLE_RATE_HZ,
        tonic=TONICS[tonic],
        mode=mode,
        tuning_cents=round(cents, 2),
    )


def name_chord(chord: str, tonic: int) -> str:
    """Return a chord as MMA names it; ``7:7`` in C is ``G7``."""
    found = re.fullmatch(r"(\d+):?(.*)", chord)
    assert found is not None
    return ROOTS[(int(found[1]) + tonic) % 12] + found[2]
