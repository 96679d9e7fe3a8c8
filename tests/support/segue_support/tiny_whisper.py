"""A Whisper of 16 channels in CTranslate2's format, whose answers are known.

It takes what is loud below 2 kHz for French and what is loud above for German, and whatever it
hears, it writes the same tokens.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import WhisperSpec

CHANNELS = 16
BANDS = 80
LOW_BANDS = 49  # of Slaney's scale, which are below 2 kHz
TEXT = ("Ġh", "i", "Ãł", "Ġtoi", "!")
LANGUAGES = ("<|fr|>", "<|de|>", "<|jw|>")
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", *LANGUAGES)
TASKS = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>")
LAST = ("<|nocaptions|>", "<|notimestamps|>")
TIMES = tuple(f"<|{i * 0.02:.2f}|>" for i in range(1501))
# By the token without text, CTranslate2 knows that there are several languages.
TOKENS = (*TEXT, "", *SPECIAL, *TASKS, *LAST, *TIMES)
# After the three tokens of the prompt: two segments, the first with a letter of two bytes.
WRITTEN = (
    *("<|0.00|>", "Ġh", "i", "<|1.50|>", "<|2.00|>", "Ãł", "Ġtoi", "!", "<|4.00|>"),
    "<|endoftext|>",
)
PROMPT = 3


def write_tiny_whisper(folder: Path, *, multilingual: bool = True) -> None:
    """Write ``model.bin``, ``config.json`` and ``vocabulary.json``."""
    spec = WhisperSpec(1, 1, 1, 1)
    _fill_encoder(spec.encoder)
    _fill_decoder(spec.decoder)
    spec.register_vocabulary([token or ("" if multilingual else "none") for token in TOKENS])
    languages = [TOKENS.index(token) for token in LANGUAGES]
    spec.config.lang_ids = languages
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = []
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    spec.save(str(folder))


def use_tiny_whisper(path: Path) -> None:
    """Write the model beside a graph that lists a Whisper, and make the graph use it."""
    write_tiny_whisper(path.parent)
    text = path.read_text()
    for name in ("model.bin", "config.json", "vocabulary.txt"):
        own = path.parent / name.replace(".txt", ".json")
        digest = hashlib.sha256(own.read_bytes()).hexdigest()
        text, changes = re.subn(
            rf"source: hf:\S+/{name}\n    sha256: \w+\n    size_bytes: \d+",
            f"source: {own.name}\n    sha256: {digest}",
            text,
        )
        assert changes == 1
    path.write_text(text)


def _fill_encoder(encoder: Any) -> None:
    # Two channels: how much louder low bands are than high ones, and the opposite.
    balance = np.where(np.arange(BANDS) < LOW_BANDS, 1 / LOW_BANDS, -1 / (BANDS - LOW_BANDS))
    heard = _make_zeros(CHANNELS, BANDS, 3)
    heard[0, :, 1], heard[1, :, 1] = 50 * balance, -50 * balance
    kept = _make_zeros(CHANNELS, CHANNELS, 3)
    kept[:, :, 1] = np.eye(CHANNELS, dtype=np.float32)
    for convolution, weight in ((encoder.conv1, heard), (encoder.conv2, kept)):
        convolution.weight = weight
        convolution.bias = _make_zeros(CHANNELS)
    encoder.position_encodings.encodings = _make_zeros(1500, CHANNELS)
    _normalize(encoder.layer_norm)
    for layer in encoder.layer:
        _silence_attention(layer.self_attention, (3, 1))
        _silence_network(layer.ffn)


def _fill_decoder(decoder: Any) -> None:
    positions = _make_zeros(448, CHANNELS)
    shown = CHANNELS - 2
    positions[np.arange(shown), 2 + np.arange(shown)] = 1.0
    decoder.embeddings.weight = _make_zeros(len(TOKENS), CHANNELS)
    decoder.position_encodings.encodings = positions
    _normalize(decoder.layer_norm)
    projection = _make_zeros(len(TOKENS), CHANNELS)
    projection[TOKENS.index("<|fr|>"), 0] = projection[TOKENS.index("<|de|>"), 1] = 0.5
    for number, token in enumerate(WRITTEN):
        projection[TOKENS.index(token), 2 + PROMPT - 1 + number] = 20.0
    decoder.projection.weight = projection
    decoder.projection.bias = _make_zeros(len(TOKENS))
    for layer in decoder.layer:
        _silence_attention(layer.self_attention, (3, 1))
        # Keys of zero: the mean of all that the encoder has heard.
        queries, keys_and_values, output = layer.attention.linear
        _connect(queries, _make_zeros(CHANNELS, CHANNELS))
        _connect(
            keys_and_values,
            np.vstack([_make_zeros(CHANNELS, CHANNELS), np.eye(CHANNELS, dtype=np.float32)]),
        )
        _connect(output, np.eye(CHANNELS, dtype=np.float32))
        _normalize(layer.attention.layer_norm)
        _silence_network(layer.ffn)


def _silence_attention(attention: Any, multiples: tuple[int, ...]) -> None:
    for linear, multiple in zip(attention.linear, multiples, strict=True):
        _connect(linear, _make_zeros(multiple * CHANNELS, CHANNELS))
    _normalize(attention.layer_norm)


def _silence_network(network: Any) -> None:
    for linear in (network.linear_0, network.linear_1):
        _connect(linear, _make_zeros(CHANNELS, CHANNELS))
    _normalize(network.layer_norm)


def _connect(linear: Any, weight: np.ndarray) -> None:
    linear.weight, linear.bias = weight, _make_zeros(len(weight))


def _normalize(layer_norm: Any) -> None:
    layer_norm.gamma, layer_norm.beta = _make_zeros(CHANNELS) + 1, _make_zeros(CHANNELS)


def _make_zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)
