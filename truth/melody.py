"""Measures pitch on tunes of one voice, and notes on composed music."""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mido
import mir_eval
import numpy as np
import soundfile

from truth import tunes
from truth.caller import System
from truth.choices import choose, find_items, make_once
from truth.corpus import Item
from truth.debian import unpack_package
from truth.midi import DRUM_CHANNEL, list_notes, ticks_to_time
from truth.models import fetch_model, find_packages
from truth.rows import Answers, Row, describe, mean, reduce
from truth.tables import Column, name_set, number
from truth.wad import read_music

if TYPE_CHECKING:
    from numpy.typing import NDArray

PITCH, NOTES = "truth.jobs:PitchContour", "segue.features.notes:Notes"
PITCH_MODEL, NOTES_MODEL = "swift_f0@1", "basic_pitch@1"
RIGHT_CENTS = 50
COMPOSED = ("openttd", "freedoom")
EXCERPT_S = 30.0

FEATURES = {
    "pitch": "glides, synthesised voices and instruments, beside librosa's pyin and swift-f0",
    "notes": "composed music of two games, beside basic-pitch",
}
TABLES: dict[str, tuple[Column, ...]] = {
    "pitch": (
        ("set", name_set),
        ("system", lambda row: row["system"]),
        ("found", lambda row: number(row["found"], 3)),
        ("right", lambda row: number(row["right"], 3)),
        ("false", lambda row: number(row["false"], 3)),
        ("error, cents", lambda row: number(row["error_cents"], 1)),
        ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
    ),
    "notes": (
        ("set", name_set),
        ("system", lambda row: row["system"]),
        ("precision", lambda row: number(row["precision"], 3)),
        ("recall", lambda row: number(row["recall"], 3)),
        ("F", lambda row: number(row["f"], 3)),
        ("F with ends", lambda row: number(row["f_with_ends"], 3)),
        ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
    ),
}


def measure_pitch(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of pitch."""
    write = partial(tunes.write_tunes, packages=given.cache / "packages")
    folder = make_once(given.cache, "tunes", tunes.__file__, write)
    items = tunes.read_tunes(folder)
    call = "truth.melody_references:{}".format
    packages = {"packages": find_packages()}
    references = [
        System(name="librosa", python=given.python, call=call("librosa_pitch")),
        System(name="swift-f0", python=given.python, call=call("SwiftPitch"), parameters=packages),
    ]
    model = fetch_model(given.python, PITCH_MODEL)
    systems = choose(given, PITCH, references, parameters={"model": model})
    found = answers_of.ask(systems, [folder / f"{item.name}.wav" for item in items], "pitch")
    rows = []
    for name in dict.fromkeys(item.set for item in items):
        for system, answers in found.items():
            pairs = zip(items, answers, strict=True)
            group = [(item, answer) for item, answer in pairs if item.set == name]
            scores = [score_pitch(item.f0_hz, one.value) for item, one in group if one.value]
            seconds = sum(item.duration for item, _ in group)
            row = describe("pitch", {"set": name}, system, [one for _, one in group], seconds)
            keys = ("found", "right", "false", "error_cents")
            rows.append({**row, **{key: reduce(mean, scores, key) for key in keys}})
    return rows


def score_pitch(truth: Sequence[float | None], value: dict[str, Any]) -> dict[str, float | None]:
    """Compare the pitches that a system found with the truth.

    Parameters
    ----------
    truth : sequence of (float or None)
        Every 10 ms: 0 where there is no pitch, and None where it is not known.
    value : dict
        ``hop_s``, and ``f0_hz`` with None where no pitch was found.

    Returns
    -------
    dict
        - ``found`` : share of the frames with a pitch in which one was found
        - ``right`` : share of these in which it is within 50 cents
        - ``false`` : share of the frames without a pitch in which one was found
        - ``error_cents`` : median distance where one was found
    """
    true = np.array([np.nan if hz is None else hz for hz in truth])
    heard = np.array([0.0 if hz is None else hz for hz in value["f0_hz"]])
    nearest = np.rint(np.arange(len(true)) * tunes.STEP_S / value["hop_s"]).astype(np.int64)
    heard = heard[np.minimum(nearest, len(heard) - 1)]
    both = (true > 0) & (heard > 0)
    silent = true == 0
    cents = 1200 * np.abs(np.log2(heard[both] / true[both]))
    return {
        "found": float(both.sum() / (true > 0).sum()),
        "right": float((cents <= RIGHT_CENTS).mean()) if both.any() else None,
        "false": float((heard[silent] > 0).mean()) if silent.any() else None,
        "error_cents": float(np.median(cents)) if both.any() else None,
    }


def measure_notes(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of notes: the first half minute of each piece, all notes but drums."""
    items, folder = find_items(given)
    items = [item for item in items if item.set in COMPOSED]
    scores = read_scores(given.cache / "packages") if items else {}
    reference = System(
        name="basic-pitch",
        python=given.python,
        call="truth.melody_references:BasicPitch",
        parameters={"packages": find_packages()},
    )
    model = fetch_model(given.python, NOTES_MODEL)
    systems = choose(given, NOTES, [reference], parameters={"model": model})
    with tempfile.TemporaryDirectory() as scratch:
        paths = [cut_excerpt(folder, item, Path(scratch)) for item in items]
        found = answers_of.ask(systems, paths, "notes")
    truths = [list_true_notes(scores[item.name], min(EXCERPT_S, item.duration)) for item in items]
    rows = []
    for key in dict.fromkeys((item.set, item.split) for item in items):
        for system, answers in found.items():
            triples = zip(items, truths, answers, strict=True)
            group = [one for one in triples if (one[0].set, one[0].split) == key]
            marks = [score_notes(truth, one.value["notes"]) for _, truth, one in group if one.value]
            seconds = sum(min(EXCERPT_S, item.duration) for item, _, _ in group)
            names = dict(zip(("set", "split"), key, strict=True))
            row = describe("notes", names, system, [one for _, _, one in group], seconds)
            fields = ("precision", "recall", "f", "f_with_ends")
            rows.append({**row, **{field: reduce(mean, marks, field) for field in fields}})
    return rows


def cut_excerpt(folder: Path, item: Item, target: Path) -> Path:
    """Write the first half minute of a sound of the corpus."""
    sr = soundfile.info(folder / f"{item.name}.wav").samplerate
    y, _ = soundfile.read(folder / f"{item.name}.wav", frames=round(EXCERPT_S * sr))
    soundfile.write(target / f"{item.name}.wav", y, sr, "PCM_16")
    return target / f"{item.name}.wav"


def read_scores(packages: Path) -> dict[str, bytes]:
    """Return the MIDI files of composed music by the names of their sounds in the corpus."""
    scores = {}
    for file in unpack_package("openttd-openmsx", packages).glob("usr/share/**/*.mid"):
        scores[f"openttd_{file.stem}".replace(" ", "_")] = file.read_bytes()
    doom = unpack_package("freedoom", packages) / "usr/share/games/doom"
    for wad in ("freedoom1", "freedoom2"):
        for lump, data in read_music((doom / f"{wad}.wad").read_bytes()).items():
            scores[f"freedoom_{wad}_{lump}"] = data
    return scores


Notes = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


def list_true_notes(data: bytes, duration_s: float) -> Notes:
    """Return the start and end in seconds, and the frequency in Hz, of a piece's notes.

    Drums are left out; notes of one key that begin together are one.
    """
    piece = mido.MidiFile(file=io.BytesIO(data))
    notes = list_notes(piece)
    start, end = ticks_to_time(piece, notes.onset), ticks_to_time(piece, notes.end)
    kept = (notes.channel != DRUM_CHANNEL) & (start < duration_s - 0.05)
    found = {
        (round(float(a), 3), int(key)): min(max(float(b), float(a) + 0.02), duration_s)
        for a, b, key in zip(start[kept], end[kept], notes.key[kept], strict=True)
    }
    intervals = np.array([(a, b) for (a, _), b in found.items()]).reshape(-1, 2)
    return intervals, to_hz([key for _, key in found])


def to_hz(keys: Sequence[int]) -> NDArray[np.float64]:
    """Return the frequencies of MIDI keys."""
    return 440 * 2 ** ((np.asarray(keys, np.float64) - 69) / 12)


def score_notes(truth: Notes, notes: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Compare notes with the truth, by mir_eval.

    A note is right if its key is, and it begins within 50 ms of a true one; with ends, if it also
    ends within 50 ms of that one, or a fifth of its duration.
    """
    if not notes:
        return dict.fromkeys(("precision", "recall", "f", "f_with_ends"), 0.0)
    intervals = [(note["start_s"], max(note["end_s"], note["start_s"] + 0.01)) for note in notes]
    found = (*truth, np.array(intervals), to_hz([note["midi"] for note in notes]))
    score = mir_eval.transcription.precision_recall_f1_overlap
    precision, recall, f, _ = score(*found, offset_ratio=None)
    _, _, f_with_ends, _ = score(*found)
    return {"precision": precision, "recall": recall, "f": f, "f_with_ends": f_with_ends}


MEASURES: dict[str, Callable[[argparse.Namespace, Answers], list[Row]]] = {
    "pitch": measure_pitch,
    "notes": measure_notes,
}
