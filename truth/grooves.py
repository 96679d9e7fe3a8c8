"""Accompaniments in many styles, written by Debian's mma (Musical MIDI Accompaniment).

MMA's libraries have one file a style. Of each, the first groove that is no introduction, ending,
fill or break plays a fixed sequence of chords for about a minute, without chance (a fixed seed).

The truth is MMA's own count:

- the beat is the quarter note, four (or three, or five) in a bar, by the library's ``Time``;
- in 6/8 (``Time 6``, or the one that is counted in 3) it is the dotted quarter, two in a bar;
- in styles that the library says are in 2/4 and written in 4 at twice the tempo (cut time), or
  that are only played above 200 BPM, it is the half note, two in a bar. What swings at 180 BPM or
  is in half time (a snare on the third beat) keeps its quarters.

A file of the casio library whose notation does not say whether it is in 2 or in 4, and
what is no music (metronomes, counts, single endings), is left out.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np

LEFT_OUT = {
    *("metronome", "metronome3", "metronome6", "metronome68", "none", "count", "ending", "intro"),
    "mide",  # exotic percussion without a stated beat
    "ballad68",  # in 6/8, counted in 4 by its author
    # In 2 or in 4: the library does not say.
    *("fastbigband", "middlebigband", "polka@casio", "polkafox", "poppolka", "germanmarch"),
    *("march1", "quickstep@casio", "fasttwist"),
}
CUT_TIME = {
    *("broadway", "bwmarch", "dixie", "dixiemarch", "fastswing", "march", "merengue"),
    *("polka@stdlib", "quickstep@stdlib", "ragtime", "samba@stdlib", "ska@stdlib", "charleston"),
}
# In 6/8, which its author counts as three quarters.
SIX_IN_THREE = {"afro-cuban"}
NOT_THE_GROOVE = re.compile(r"intro|end|fill|break|count|f[a-d][a-d]?$", re.IGNORECASE)
GROOVE = re.compile(r"^\s*DefGroove\s+(\S+)", re.IGNORECASE | re.MULTILINE)
TIME = re.compile(r"^\s*Time\s+(\d+)", re.IGNORECASE | re.MULTILINE)
CHORDS = ("C", "Am", "Dm7", "G7", "Em7", "A7", "Dm7", "G7")
LONG_S = 60.0
# How many of each library: in the order of a hash of the name.
FROM_LIBRARY = {
    "stdlib": 62,
    "casio": 34,
    "zoom": 16,
    "yamaha": 8,
    "kara": 5,
    "pflib": 4,
    "alexis": 2,
}
# The usual tempi of styles, in beats as above; the first that a name matches holds. Where a
# library suggests a tempo, it is in the range.
TEMPI = (
    (r"dnb", 165, 178),
    (r"march|polka|quickstep", 108, 126),
    (r"68swing", 100, 120),
    (r"68|blues34", 50, 72),
    (r"charleston", 105, 130),
    (r"samba", 95, 115),
    (r"quando", 110, 130),
    (r"merengue", 115, 140),
    (r"ragtime|broadway$|dixie|fastswing", 95, 125),
    (r"hip-?hop|trip", 80, 98),
    (r"techno|rave|trance", 128, 142),
    (r"house|dance|disco", 116, 130),
    (r"reggae", 70, 88),
    (r"ska", 125, 150),
    (r"punk|thr", 168, 196),
    (r"metal|mtl|hrk", 110, 160),
    (r"jazzwaltz|latinwaltz", 125, 170),
    (r"fastwaltz|viennese|vienese", 165, 190),
    (r"frenchwaltz", 145, 175),
    (r"waltz|34", 90, 135),
    (r"fastjazz|fastblues", 150, 190),
    (r"bebop", 120, 150),
    (r"2beatp", 110, 130),
    (r"western|kwest|desert", 75, 100),
    (r"mellowjazz|slowjazz|nitejazz", 56, 76),
    (r"ballad|bald|slow|lullaby|hymn|spiritual|serenade", 58, 84),
    (r"bossa", 115, 145),
    (r"tango|beguine|rhumba", 104, 126),
    (r"chacha", 108, 126),
    (r"bolero|son$|cubanguitar|afro", 92, 116),
    (r"yamaha/(mambo|salsa)", 86, 104),  # in sixteenths
    (r"mambo|salsa", 168, 200),  # in eighths
    (r"calypso|zydeco|latin|lfusion", 104, 128),
    (r"boogi|boggie|bluegrass|jive|twi", 140, 176),
    (r"swing|bigband|basie|jazz|gypsy|evans", 116, 176),
    (r"foxtrot|softshoe|strut|showtune", 108, 130),
    (r"blues|shuffle|shfl", 84, 124),
    (r"funk|bvf", 94, 114),
    (r"soul|rb|rnb|r\+b|16|motown", 84, 112),
    (r"ambient", 76, 100),
    (r"country|cntry|folk|hill", 96, 126),
    (r"rock|8beat|beat8|pop|fusion", 100, 140),
    (r"", 96, 126),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Groove:
    """A groove of a library, and how it is counted.

    Attributes
    ----------
    name : str
        ``library/file``.
    groove : str
        As MMA calls it.
    quarters_per_bar : int
    quarters_per_beat : float
        1, 2 in cut time, 3 (or 1.5) in 6/8.
    bpm : float
        Beats a minute.
    """

    name: str
    groove: str
    quarters_per_bar: int
    quarters_per_beat: float
    bpm: float

    @property
    def beats_per_bar(self) -> int:
        """Beats in a bar."""
        return round(self.quarters_per_bar / self.quarters_per_beat)


def hash_name(name: str) -> int:
    """Return a number that depends on nothing but a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def choose_grooves(libraries: Path) -> list[Groove]:
    """Return the grooves of the corpus: of each library so many, in the order of a hash."""
    chosen = []
    for library, count in FROM_LIBRARY.items():
        files = sorted((libraries / library).glob("*.mma"), key=lambda file: hash_name(file.stem))
        found = [read_groove(file) for file in files]
        chosen += [groove for groove in found if groove is not None][:count]
    return sorted(chosen, key=lambda groove: groove.name)


def read_groove(file: Path) -> Groove | None:
    """Return the main groove of a library's file; None if it is left out."""
    library, stem = file.parent.name, file.stem
    if {stem, f"{stem}@{library}"} & LEFT_OUT:
        return None
    text = file.read_text(encoding="latin-1")
    names = [name for name in GROOVE.findall(text) if not NOT_THE_GROOVE.search(name)]
    time = TIME.search(text)
    if not names or time is None:
        return None
    quarters = int(time[1])
    per_beat = 3.0 if quarters == 6 else 1.0
    if stem in SIX_IN_THREE:
        per_beat = 1.5
    if {stem, f"{stem}@{library}"} & CUT_TIME:
        per_beat = 2.0
    low, high = next(
        (low, high)
        for style, low, high in TEMPI
        if re.search(style, f"{library}/{stem}", re.IGNORECASE)
    )
    part = hash_name(f"tempo of {library}/{stem}") / 2**64
    return Groove(
        name=f"{library}/{stem}",
        groove=names[0],
        quarters_per_bar=quarters,
        quarters_per_beat=per_beat,
        bpm=round(low + (high - low) * part, 1),
    )


def write_piece(
    groove: Groove, program: Path, chords: Sequence[str] = CHORDS
) -> tuple[mido.MidiFile, int]:
    """Return what MMA plays, and the number of its bars.

    Parameters
    ----------
    groove : Groove
    program : Path
        The unpacked package.
    chords : sequence of str
        One a bar, again and again.
    """
    beats = LONG_S * groove.bpm / 60
    bars = len(chords) * int(np.ceil(beats / groove.beats_per_bar / len(chords)))
    tempo = groove.bpm * groove.quarters_per_beat
    lines = [
        "RndSeed 1",
        f"Tempo {tempo:.3f}",
        f"Groove {groove.name}:{groove.groove}",
        *(f"{bar + 1} {chords[bar % len(chords)]}" for bar in range(bars)),
    ]
    home = program / "usr/share/mma"
    with tempfile.TemporaryDirectory() as scratch:
        score, out = Path(scratch) / "piece.mma", Path(scratch) / "piece.mid"
        score.write_text("\n".join(lines) + "\n")
        subprocess.run(
            [sys.executable, program / "usr/bin/mma", "-f", out, score],
            env={**os.environ, "MMA_HOME": str(home), "HOME": scratch},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        piece = mido.MidiFile(file=io.BytesIO(out.read_bytes()))
    for message in piece.tracks[0]:
        if message.type == "set_tempo":  # MMA writes whole numbers
            message.tempo = round(60e6 / tempo)
    return piece, bars
