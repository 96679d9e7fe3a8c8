"""A BeatNet whose weights are set by hand, so that it hears hisses as beats and thuds as downbeats.

It has the layers and the files of the real one, and needs no download.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segue.media.audio import Audio
from segue.models.beatnet import FILES, SHAPES, UNITS, convert
from segue_support.torch_archives import write_archive

RATE_HZ = 22_050
OPEN = 20.0  # of a gate
RISES = 68  # where the rises begin among the values that the first layer has pooled
HISS, THUD = slice(98, 131), slice(RISES, 80)  # pooled rises of high and of low bands


def make_beatnet(folder: Path) -> Path:
    """Write the network as an ONNX file, and return its path."""
    weights = _make_weights()
    for name in FILES:
        write_archive(folder / name, weights)
    path = folder / "beatnet.onnx"
    convert(folder, path)
    return path


def _make_weights() -> dict[str, np.ndarray[Any, Any]]:
    w = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    w["conv1.weight"][0, 0, 0] = 1.0
    for unit, part in enumerate((HISS, THUD)):
        w["linear0.weight"][unit, part] = 1.0 / (part.stop - part.start)
    for layer in range(2):
        enter, forget, cell, leave = (slice(n * UNITS, (n + 1) * UNITS) for n in range(4))
        w[f"lstm.bias_ih_l{layer}"][enter] = w[f"lstm.bias_ih_l{layer}"][leave] = OPEN
        w[f"lstm.bias_ih_l{layer}"][forget] = -OPEN
        w[f"lstm.weight_ih_l{layer}"][cell] = 5.0 * np.eye(UNITS)
    w["linear.weight"][0, 0] = 9.0
    w["linear.weight"][1, :2] = -9.0, 9.0  # a hiss is in low bands, too
    w["linear.bias"][:] = -4.0, -4.0, 0.0
    return w


def make_bars(
    bpm: float, beats_per_bar: int, duration_s: float, *, first_beat_s: float = 0.5, upbeat: int = 0
) -> tuple[Audio, list[float], list[int]]:
    """Return hisses on beats and thuds on downbeats, the times of all, and their positions.

    ``upbeat`` is how many beats come before the first downbeat.
    """
    rng = np.random.default_rng(0)
    t = np.arange(round(0.05 * RATE_HZ)) / RATE_HZ
    hiss = np.diff(rng.normal(0, 0.3, len(t) + 1)) * np.exp(-t * 80)
    thud = np.sin(2 * np.pi * 60 * t) * np.hanning(len(t))
    y = np.zeros(round(duration_s * RATE_HZ))
    times_s = np.arange(first_beat_s, duration_s - 0.1, 60 / bpm).tolist()
    positions = [1 + (n - upbeat) % beats_per_bar for n in range(len(times_s))]
    for time_s, position in zip(times_s, positions, strict=True):
        at = round(time_s * RATE_HZ)
        y[at : at + len(t)] += thud if position == 1 else hiss
    return Audio(y=y.astype(np.float32), sr=RATE_HZ), times_s, positions
