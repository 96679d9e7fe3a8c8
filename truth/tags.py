"""Measures the tags of music whose genre is known: by its game, or by the name of its style."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soundfile
import soxr

from truth.caller import System
from truth.choices import choose, find_items
from truth.corpus import Item
from truth.models import fetch_model
from truth.recordings import GROWLED, list_electronic, list_rock
from truth.rows import Answer, Answers, Row, median
from truth.tables import Column, name_set, number, ratio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PLAIN = "plain"
SAMPLE_RATE_HZ = 16_000
START_S, EXCERPT_S = 20.0, 30.0
QUIET = "songs, 20 dB quieter"
METAL = ("metal", "heavy metal", "hard rock")
ELECTRONIC = ("electronic", "ambient", "chillout", "electronica", "dance", "chill")
DANCE = ("electronic", "dance", "electro", "House", "electronica", "party")
SOUL = ("funk", "soul", "rnb")
ROCK = ("rock", "classic rock", "hard rock", "alternative rock", "indie rock", "punk")
# What a style's name has → tags that fit; the first that matches holds.
GENRES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("metal", METAL),
    ("triphop", (*ELECTRONIC, "Hip-Hop")),
    ("hiphop", ("Hip-Hop",)),
    ("hip-hop", ("Hip-Hop",)),
    ("jazz", ("jazz",)),
    ("swing", ("jazz",)),
    ("dixie", ("jazz",)),
    ("techno", DANCE),
    ("house", DANCE),
    ("dance", DANCE),
    ("disco", ("dance", "funk", "soul", "party")),
    ("blues", ("blues",)),
    ("boog", ("blues",)),
    ("country", ("country",)),
    ("west", ("country",)),
    ("funk", SOUL),
    ("soul", SOUL),
    ("mellowrb", SOUL),
    ("ambient", ELECTRONIC),
    ("folk", ("folk",)),
    ("rock", ROCK),
)

FEATURES = {"tags": "music whose genre is known, beside a plain call of musicnn's network"}
TABLES: dict[str, tuple[Column, ...]] = {
    "tags": (
        ("set", name_set),
        ("system", lambda row: row["system"]),
        ("first", lambda row: ratio(row["first"], row)),
        ("of the first 3", lambda row: ratio(row["of_3"], row)),
        ("of the first 5", lambda row: ratio(row["of_5"], row)),
        ("median rank", lambda row: number(row["rank"], 1)),
        ("CPU, s/min", lambda row: number(row["cpu_s_per_min"], 2)),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """A sound at 16 kHz, its set and split, and the tags that fit."""

    set: str
    split: str
    tags: tuple[str, ...]
    path: Path


def find_genre(name: str) -> tuple[str, ...] | None:
    """Return the tags that fit a style by its name; None if the name has no genre."""
    return next((tags for part, tags in GENRES if part in name.lower()), None)


def rank_tags(found: Sequence[dict[str, Any]], fitting: Sequence[str]) -> int:
    """Return the place of the first tag that fits, from 1."""
    return 1 + next(place for place, tag in enumerate(found) if tag["name"] in fitting)


def read_mono(path: Path, start_s: float, seconds: float) -> NDArray[np.float32]:
    """Return a part of a recording, mono at 16 kHz."""
    sr = soundfile.info(path).samplerate
    y, _ = soundfile.read(
        path,
        start=round(start_s * sr),
        frames=round(seconds * sr),
        dtype="float32",
        always_2d=True,
    )
    mono: NDArray[np.float32] = soxr.resample(y.mean(axis=1), sr, SAMPLE_RATE_HZ)
    return mono


def iterate_sounds(
    packages: Path, items: Sequence[Item], corpus: Path
) -> Iterator[tuple[str, str, tuple[str, ...], NDArray[np.float32]]]:
    """Yield set, split, the tags that fit, and the sound."""
    songs = [(path, METAL) for path in list_rock(packages, GROWLED)]
    songs += [(path, ELECTRONIC) for path in list_electronic(packages)]
    for path, tags in songs:
        y = read_mono(path, START_S, EXCERPT_S)
        yield "songs", "development", tags, y
        yield QUIET, "development", tags, y / 10
    for item in items:
        fitting = find_genre(item.name.removeprefix("grooves_"))
        if item.set == "grooves" and fitting:
            yield (
                item.set,
                item.split,
                fitting,
                read_mono(corpus / f"{item.name}.wav", 0, EXCERPT_S),
            )


def measure_tags(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return a row for each set, split and system."""
    parameters = {"model": fetch_model(given.python, "musicnn@1")}
    call = "truth.plain_calls:PlainMusicnn"
    references = [System(name=PLAIN, python=given.python, call=call, parameters=parameters)]
    systems = choose(given, "segue.features.music_tags:Tags", references, parameters=parameters)
    with tempfile.TemporaryDirectory() as scratch:
        sounds = []
        for kind, split, fitting, y in iterate_sounds(given.cache / "packages", *find_items(given)):
            path = Path(scratch) / f"{len(sounds)}.wav"
            soundfile.write(path, y, SAMPLE_RATE_HZ, "FLOAT")
            sounds.append(Tagged(set=kind, split=split, tags=fitting, path=path))
        found = answers_of.ask(systems, [sound.path for sound in sounds], "tags")
    return [
        summarize(
            name,
            [
                (sound, answer)
                for sound, answer in zip(sounds, answers, strict=True)
                if (sound.set, sound.split) == group
            ],
        )
        for group in dict.fromkeys((sound.set, sound.split) for sound in sounds)
        for name, answers in found.items()
    ]


def summarize(system: str, group: Sequence[tuple[Tagged, Answer]]) -> Row:
    """Return the row of one set, split and system."""
    heard = [(sound, answer) for sound, answer in group if answer.value and answer.value["tags"]]
    ranks = [rank_tags(answer.value["tags"], sound.tags) for sound, answer in heard]
    return {
        "feature": "tags",
        "set": group[0][0].set,
        "split": group[0][0].split,
        "system": system,
        "files": len(group),
        "errors": [answer.error for _, answer in group if answer.error],
        "first": sum(rank == 1 for rank in ranks),
        "of_3": sum(rank <= 3 for rank in ranks),
        "of_5": sum(rank <= 5 for rank in ranks),
        "rank": median(ranks) if ranks else None,
        "cpu_s_per_min": 60 / EXCERPT_S * sum(answer.cpu_s for _, answer in group) / len(group),
    }


MEASURES: dict[str, Callable[[argparse.Namespace, Answers], list[Row]]] = {"tags": measure_tags}
