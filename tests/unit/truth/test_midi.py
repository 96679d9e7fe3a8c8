"""Beats and bars of MIDI files, and which files keep to their own."""

from __future__ import annotations

import mido
import numpy as np
import pytest
from truth.midi import (
    keeps_to_its_bars,
    keeps_to_its_beats,
    list_beats,
    list_notes,
    measure_grid,
    ticks_to_time,
)

TICKS = 480  # of a quarter


def piece(notes, *meta):
    """A file with notes (tick, key, ticks) and other messages (tick, type, values)."""
    events = [(tick, mido.MetaMessage(kind, **values)) for tick, kind, values in meta]
    for tick, key, length in notes:
        events.append((tick, mido.Message("note_on", note=key, velocity=80)))
        events.append((tick + length, mido.Message("note_off", note=key)))
    track = mido.MidiTrack()
    now = 0
    for tick, message in sorted(events, key=lambda event: event[0]):
        track.append(message.copy(time=tick - now))
        now = tick
    file = mido.MidiFile(ticks_per_beat=TICKS)
    file.tracks.append(track)
    return file


def tempo(tick, bpm):
    return (tick, "set_tempo", {"tempo": round(60e6 / bpm)})


def signature(tick, numerator, denominator):
    return (tick, "time_signature", {"numerator": numerator, "denominator": denominator})


def test_ticks_become_seconds_by_the_tempo_map():
    file = piece([], tempo(0, 120), tempo(2 * TICKS, 60))
    assert ticks_to_time(file, [0, TICKS, 2 * TICKS, 3 * TICKS]).tolist() == [0, 0.5, 1, 2]


def test_a_file_without_tempo_has_120_quarters_a_minute():
    assert ticks_to_time(piece([]), TICKS) == 0.5


@pytest.mark.parametrize(
    ("numerator", "denominator", "beat", "per_bar"),
    [
        (4, 4, TICKS, 4),
        (3, 4, TICKS, 3),
        (6, 8, 1.5 * TICKS, 2),
        (12, 8, 1.5 * TICKS, 4),
        (2, 2, 2 * TICKS, 2),
        (5, 8, TICKS / 2, 5),
    ],
)
def test_the_beat_is_that_of_the_time_signature(numerator, denominator, beat, per_bar):
    found = list_beats(piece([], signature(0, numerator, denominator)), 12 * TICKS)
    assert np.diff(found.ticks).tolist() == [beat] * (len(found.ticks) - 1)
    assert found.beats_per_bar == per_bar
    assert found.position[: per_bar + 1].tolist() == [*range(per_bar), 0]


def test_a_new_signature_begins_a_bar():
    found = list_beats(piece([], signature(0, 4, 4), signature(4 * TICKS, 3, 4)), 9 * TICKS)
    assert found.position.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2]
    assert found.beats_per_bar == 3


def test_without_a_signature_bars_are_unknown():
    found = list_beats(piece([(0, 60, 10)]), 4 * TICKS)
    assert found.position is None
    assert found.beats_per_bar is None
    assert found.times_s.tolist() == [0, 0.5, 1, 1.5, 2]


def test_a_note_lasts_until_its_end_or_to_the_next_of_its_key():
    file = piece([(0, 60, 2 * TICKS), (TICKS, 60, TICKS)])
    notes = list_notes(file)
    assert notes.onset.tolist() == [0, TICKS]
    assert notes.end.tolist() == [TICKS, 2 * TICKS]


def check(notes, *meta):
    file = piece(notes, *meta)
    found = list_notes(file)
    beats = list_beats(file, int(found.onset.max()))
    return found, beats


QUARTERS = [(TICKS * beat, 60, 100) for beat in range(32)]


def test_notes_on_the_beats_keep_to_them():
    notes, beats = check(QUARTERS)
    assert measure_grid(notes, beats) == (0, 1)
    assert keeps_to_its_beats(notes, beats)


@pytest.mark.parametrize(
    "notes",
    [
        [(tick + TICKS // 8, key, length) for tick, key, length in QUARTERS],  # off the grid
        QUARTERS[::2] + QUARTERS[-1:],  # every other beat is empty
        QUARTERS + [(tick + TICKS // 2, key, 10) for tick, _, _ in QUARTERS for key in (64, 67)],
        QUARTERS[:6],  # too short
    ],
    ids=["off", "sparse", "syncopated", "short"],
)
def test_other_notes_do_not_keep_to_their_beats(notes):
    assert not keeps_to_its_beats(*check(notes))


def bass(beat_of_bar):
    return [(TICKS * (4 * bar + beat_of_bar), 40, 3 * TICKS // 2) for bar in range(8)]


def test_bars_are_trusted_if_the_bass_begins_with_them():
    assert keeps_to_its_bars(*check(QUARTERS + bass(0), signature(0, 4, 4)))
    assert not keeps_to_its_bars(*check(QUARTERS + bass(2), signature(0, 4, 4)))
    assert not keeps_to_its_bars(*check(QUARTERS + bass(0)))
    assert not keeps_to_its_bars(*check(QUARTERS, signature(0, 4, 4)))
