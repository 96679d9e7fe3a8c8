"""Notes as a Standard MIDI File, which any program for music opens.

A tick of the file is a millisecond, so that no time is rounded: it has 500 ticks to the quarter
note, and 120 quarter notes to the minute, whatever the tempo of the music is.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

PRELOAD = ("mido",)

TICKS_PER_QUARTER = 500
QUARTER_US = 500_000  # so that a tick is 1 ms
VELOCITY = 64  # that of keyboards that do not measure it, in the MIDI 1.0 specification


def midi_file(notes: Mapping[str, Any]) -> bytes:
    """Write notes as a Standard MIDI File with one track (format 0).

    Parameters
    ----------
    notes : dict
        The result of the job ``notes``.

    Returns
    -------
    bytes
        The file. All notes have the velocity 64, as their loudness is not known, and are on the
        first channel, whose instrument is a player's choice. Without notes, its track is empty.
    """
    import mido

    # At the same time, notes end before others begin: a key may be struck again at once.
    events = sorted(
        (round(1000 * note[f"{edge}_s"]), kind, note["midi"])
        for note in notes["notes"]
        for edge, kind in (("start", "note_on"), ("end", "note_off"))
    )
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=QUARTER_US)])
    now = 0
    for tick, kind, key in events:
        track.append(mido.Message(kind, note=key, velocity=VELOCITY, time=tick - now))
        now = tick
    file = mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_QUARTER, tracks=[track])
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()
