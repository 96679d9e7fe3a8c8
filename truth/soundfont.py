"""MIDI played by a sound font: tinysoundfont, driven note by note, so that each begins on time."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import tinysoundfont

from truth.midi import DRUM_CHANNEL, list_events, ticks_to_time

if TYPE_CHECKING:
    import mido
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 22_050
PLAYED_AT_HZ = 44_100
GAIN_DB = -12.0
PEAK = 0.8


@lru_cache(maxsize=1)
def load_synth(path: Path) -> tuple[tinysoundfont.Synth, int]:
    """Return a synthesiser with a sound font, and the font's number."""
    synth = tinysoundfont.Synth(gain=GAIN_DB, samplerate=PLAYED_AT_HZ)
    return synth, synth.sfload(str(path))


def play(piece: mido.MidiFile, font: Path, longest_s: float) -> NDArray[np.float32]:
    """Return a piece as mono sound at 22.05 kHz, its first seconds at most.

    Two seconds are added for the last notes to end. The peak is 0.8.
    """
    synth, number = load_synth(font)
    for channel in range(16):
        synth.program_select(channel, number, 128 if channel == DRUM_CHANNEL else 0, 0)
        synth.sounds_off(channel)
        for controller, value in ((121, 0), (7, 100), (10, 64), (11, 127), (64, 0)):
            synth.control_change(channel, controller, value)
        synth.pitchbend(channel, 8192)
    events = list_events(piece)
    times = ticks_to_time(piece, [tick for tick, _ in events])
    parts, at = [], 0
    for (_, message), time_s in zip(events, times, strict=True):
        if message.is_meta:
            continue
        until = round(min(time_s, longest_s) * PLAYED_AT_HZ)
        if until > at:
            parts.append(generate(synth, until - at))
            at = until
        if time_s >= longest_s:
            break
        send(synth, message)
    else:
        parts.append(generate(synth, 2 * PLAYED_AT_HZ))
    for channel in range(16):
        synth.sounds_off(channel)
    mono = np.concatenate(parts)
    y = soxr.resample(mono, PLAYED_AT_HZ, SAMPLE_RATE_HZ, quality="HQ")
    y *= PEAK / max(1e-9, float(np.abs(y).max()))
    return np.asarray(y, dtype=np.float32)


def generate(synth: tinysoundfont.Synth, samples: int) -> NDArray[np.float32]:
    """Return the next samples, as the mean of left and right."""
    stereo = np.frombuffer(synth.generate(samples), dtype=np.float32).reshape(-1, 2)
    return stereo.mean(axis=1, dtype=np.float32)


def send(synth: tinysoundfont.Synth, message: Any) -> None:
    """Pass a channel message on; others make no sound."""
    if message.type == "note_on" and message.velocity > 0:
        synth.noteon(message.channel, message.note, message.velocity)
    elif message.type in {"note_on", "note_off"}:
        synth.noteoff(message.channel, message.note)
    elif message.type == "control_change":
        synth.control_change(message.channel, message.control, message.value)
    elif message.type == "pitchwheel":
        synth.pitchbend(message.channel, message.pitch + 8192)
    elif message.type == "program_change":
        try:
            synth.program_change(message.channel, message.program, message.channel == DRUM_CHANNEL)
        except RuntimeError:  # the font has no such drum kit: the standard kit stays
            return
