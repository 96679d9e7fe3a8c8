"""Notes become a Standard MIDI File that another program reads back."""

from __future__ import annotations

import io

import mido
import pytest

from segue.features.midi_file import midi_file


def read(data: bytes) -> list[tuple[float, float, int]]:
    """Return the start, end and key of each note, as mido plays the file."""
    now, open_keys, notes = 0.0, {}, []
    for message in mido.MidiFile(file=io.BytesIO(data)):
        now += message.time
        if message.type == "note_on":
            assert message.note not in open_keys
            open_keys[message.note] = now
        elif message.type == "note_off":
            notes.append((open_keys.pop(message.note), now, message.note))
    assert not open_keys
    return sorted(notes)


def describe(*notes: tuple[float, float, int]) -> dict:
    return {
        "notes": [{"start_s": s, "end_s": e, "midi": m, "confidence": 0.5} for s, e, m in notes],
        "reason": None,
    }


def test_times_and_keys_come_back_to_the_millisecond():
    notes = [(0.012, 1.5, 21), (0.5, 0.801, 69), (0.5, 7200.003, 108)]
    for found, expected in zip(read(midi_file(describe(*notes))), notes, strict=True):
        assert found == pytest.approx(expected, abs=1e-6)


def test_a_key_may_be_struck_again_when_it_ends():
    notes = [(0.0, 0.5, 60), (0.5, 1.0, 60)]
    assert read(midi_file(describe(*notes))) == pytest.approx(notes)


def test_no_notes_are_an_empty_file():
    assert read(midi_file({"notes": [], "reason": "no note is heard"})) == []


def test_the_file_has_one_track_and_a_tempo_so_that_a_tick_is_a_millisecond():
    file = mido.MidiFile(file=io.BytesIO(midi_file(describe((0.25, 1.0, 60)))))
    assert (file.type, len(file.tracks)) == (0, 1)
    assert [message.time for message in file.tracks[0]][:3] == [0, 250, 750]
    assert file.tracks[0][0].tempo / file.ticks_per_beat == 1000
