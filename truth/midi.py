"""MIDI files: beats and bars by the tempo map, and whether the notes keep to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mido
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Distance from a beat, in beats, within which a note is on it: 21 ms at 120 BPM.
ON_GRID = 1 / 24
DRUM_CHANNEL = 9
# Below middle C, the notes of basses.
BASS_BELOW = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Beats:
    """The beats of a piece by its own notation.

    Attributes
    ----------
    times_s : np.ndarray [shape=(n,)]
        Beats: quarter notes, or dotted quarters in 6/8, 9/8 and 12/8, or half notes in 2/2.
    ticks : np.ndarray [shape=(n,)]
        The same, in ticks of the file.
    position : np.ndarray [shape=(n,)] or None
        Each beat's place in its bar, from 0; None where the file has no time signature.
    beats_per_bar : int or None
        Of the signature that holds longest.
    """

    times_s: NDArray[np.float64]
    ticks: NDArray[np.float64]
    position: NDArray[np.int64] | None
    beats_per_bar: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """All notes of a piece, by onset.

    Attributes
    ----------
    onset, end : np.ndarray [shape=(n,)]
        In ticks.
    channel, key, velocity : np.ndarray [shape=(n,)]
    """

    onset: NDArray[np.int64]
    end: NDArray[np.int64]
    channel: NDArray[np.int64]
    key: NDArray[np.int64]
    velocity: NDArray[np.int64]


def list_events(piece: mido.MidiFile) -> list[tuple[int, Any]]:
    """Return all messages of all tracks with their ticks, in order."""
    events = []
    for track in piece.tracks:
        tick = 0
        for message in track:
            tick += message.time
            events.append((tick, message))
    return sorted(events, key=lambda event: event[0])


def list_notes(piece: mido.MidiFile) -> Notes:
    """Return the notes of a piece; a note without an end lasts to the next of its key."""
    sounding: dict[tuple[int, int], tuple[int, int]] = {}
    notes = []
    for tick, message in list_events(piece):
        if message.type not in {"note_on", "note_off"}:
            continue
        key = (message.channel, message.note)
        if key in sounding:
            onset, velocity = sounding.pop(key)
            notes.append((onset, tick, *key, velocity))
        if message.type == "note_on" and message.velocity > 0:
            sounding[key] = (tick, message.velocity)
    columns = np.array(sorted(notes), dtype=np.int64).reshape(-1, 5).T
    return Notes(
        onset=columns[0], end=columns[1], channel=columns[2], key=columns[3], velocity=columns[4]
    )


def ticks_to_time(piece: mido.MidiFile, ticks: Any) -> NDArray[np.float64]:
    """Return the seconds at which ticks are, by the tempo map."""
    changes = {0: 500_000}  # a file without tempo has 120 quarters a minute
    changes.update(
        (tick, message.tempo) for tick, message in list_events(piece) if message.type == "set_tempo"
    )
    at = np.array(sorted(changes), dtype=np.float64)
    per_tick = np.array([changes[int(tick)] for tick in at]) / (1e6 * piece.ticks_per_beat)
    seconds = np.concatenate([[0.0], np.cumsum(np.diff(at) * per_tick[:-1])])
    ticks = np.asarray(ticks, dtype=np.float64)
    segment = np.searchsorted(at, ticks, side="right") - 1
    return seconds[segment] + (ticks - at[segment]) * per_tick[segment]


def beat_ticks(numerator: int, denominator: int, ticks_per_quarter: int) -> float:
    """Return how long the beat of a time signature is."""
    quarters = 4 / denominator
    if denominator == 8 and numerator % 3 == 0 and numerator > 3:
        quarters *= 3
    return quarters * ticks_per_quarter


def list_beats(piece: mido.MidiFile, last_tick: int) -> Beats:
    """Return the beats up to a tick, by the time signatures and the tempo map."""
    signatures = {
        tick: (message.numerator, message.denominator)
        for tick, message in list_events(piece)
        if message.type == "time_signature"
    }
    starts = sorted({0, *signatures})
    ticks: list[float] = []
    position: list[int] = []
    held: dict[int, float] = {}
    numerator, denominator = 4, 4
    for start, end in zip(starts, [*starts[1:], last_tick + 1], strict=True):
        numerator, denominator = signatures.get(start, (numerator, denominator))
        step = beat_ticks(numerator, denominator, piece.ticks_per_beat)
        per_bar = round(numerator * 4 / denominator * piece.ticks_per_beat / step)
        held[per_bar] = held.get(per_bar, 0) + max(0, end - start)
        count = max(0, int(np.ceil((min(end, last_tick + 1) - start) / step - 1e-9)))
        ticks += [start + step * index for index in range(count)]
        position += [index % per_bar for index in range(count)]
    return Beats(
        times_s=ticks_to_time(piece, ticks),
        ticks=np.array(ticks),
        position=np.array(position) if signatures else None,
        beats_per_bar=max(held, key=held.__getitem__) if signatures else None,
    )


def place_notes(notes: Notes, beats: Beats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each note's nearest earlier beat and its phase in beats, in [0, 1)."""
    index = np.clip(
        np.searchsorted(beats.ticks, notes.onset, side="right") - 1, 0, len(beats.ticks) - 2
    )
    step = np.diff(beats.ticks)[index]
    return index, (notes.onset - beats.ticks[index]) / step


def measure_grid(notes: Notes, beats: Beats) -> tuple[float, float]:
    """Return how well notes keep to the notated beats.

    Returns
    -------
    off_grid : float in [0, 1]
        Share of the notes that are on no eighth, twelfth or sixteenth of the beat's two halves:
        away from all multiples of 1/4 and 1/3 of a beat. One third of notes at random would be.
    on_beat : float in [0, 1]
        Share of the beats between the first and the last note that a note is on.
    """
    index, phase = place_notes(notes, beats)
    lines = np.array([0, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1])
    distance = np.abs(phase[:, None] - lines).min(axis=1)
    nearest = index + (phase > 0.5)
    struck = np.unique(nearest[np.minimum(phase, 1 - phase) <= ON_GRID])
    span = max(1, int(nearest.max() - nearest.min() + 1))
    return float(np.mean(distance > ON_GRID)), len(struck) / span


# The rule for pieces whose notes are trusted to keep to their notation; measured on the notes, and
# set before any tracker was run.
MOST_OFF_GRID = 0.2
LEAST_ON_BEAT = 0.7
LEAST_BEAT_TO_HALF = 0.8


def keeps_to_its_beats(notes: Notes, beats: Beats) -> bool:
    """Return whether the notation says where the beats of the music are.

    At most a fifth of the notes are off the grid, a note is on at least 70 % of the beats, and at
    least 0.8 times as many notes are on beats as half way between.
    """
    if len(beats.ticks) < 8 or len(notes.onset) == 0:
        return False
    off_grid, on_beat = measure_grid(notes, beats)
    _, phase = place_notes(notes, beats)
    on = np.sum(np.minimum(phase, 1 - phase) <= ON_GRID)
    between = np.sum(np.abs(phase - 0.5) <= ON_GRID)
    return bool(
        off_grid <= MOST_OFF_GRID
        and on_beat >= LEAST_ON_BEAT
        and on >= LEAST_BEAT_TO_HALF * between
    )


def keeps_to_its_bars(notes: Notes, beats: Beats) -> bool:
    """Return whether the bass agrees with the bar lines.

    Notes of the bass that begin on first beats last longer, in sum, than those that begin on any
    other beat of the bar.
    """
    if beats.position is None or beats.beats_per_bar is None:
        return False
    index, phase = place_notes(notes, beats)
    bass = (
        (notes.key < BASS_BELOW)
        & (notes.channel != DRUM_CHANNEL)
        & (np.minimum(phase, 1 - phase) <= ON_GRID)
    )
    nearest = np.minimum(index + (phase > 0.5), len(beats.position) - 1)
    held = np.bincount(
        beats.position[nearest[bass]],
        weights=(notes.end - notes.onset)[bass],
        minlength=beats.beats_per_bar,
    )
    return bool(held[0] > 0 and held.argmax() == 0)
