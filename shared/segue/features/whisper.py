"""Whisper, for the jobs that name a language and write down what is said.

It listens to windows of 30 s, as log mel power, and knows about a hundred languages [1]_. It is run
by CTranslate2, with weights of 8 bits.

.. [1] Radford, A. et al. "Robust speech recognition via large-scale weak supervision." ICML (2023).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segue.errors import ConfigurationError
from segue.extras import MissingExtra
from segue.features.mel import compute_mel_power
from segue.media.audio import Audio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("numpy", "librosa", "scipy.fft", "ctranslate2")

SAMPLE_RATE_HZ = 16_000
WINDOW_S = 30.0
N_FFT, HOP_LENGTH = 400, 160
FLOOR, RANGE = 1e-10, 8.0  # of the power, and of its logarithm to the base of 10
MAX_TOKENS = 224  # of a window, as its authors have it
BEAMS = 5
# Javanese has another code in ISO 639-1 than in Whisper.
ISO_CODES = {"jw": "jv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """What Whisper has written for a window."""

    tokens: list[str]
    mean_log_probability: float
    no_speech_probability: float


class Whisper:
    """A Whisper in CTranslate2's format.

    Parameters
    ----------
    model, config, vocabulary : Path
        Its files: ``model.bin``, ``config.json``, and ``vocabulary.txt`` or ``vocabulary.json``.

    Raises
    ------
    ConfigurationError
        If the files are no such model, or one for a single language.
    MissingExtra
        If CTranslate2 is not installed.
    """

    def __init__(self, *, model: Path, config: Path, vocabulary: Path) -> None:
        try:
            import ctranslate2
        except ModuleNotFoundError as error:
            raise MissingExtra("a model of speech", "models") from error
        files = {
            "model.bin": model.read_bytes(),
            "config.json": config.read_bytes(),
            f"vocabulary{vocabulary.suffix}": vocabulary.read_bytes(),
        }
        try:
            self._model = ctranslate2.models.Whisper(
                "whisper", compute_type="int8", inter_threads=1, intra_threads=1, files=files
            )
        except (RuntimeError, ValueError) as error:
            raise ConfigurationError(
                f"{model}, {config} and {vocabulary} are no Whisper in CTranslate2's format "
                f"({error}); name its model.bin, config.json and vocabulary.txt"
            ) from error
        if not self._model.is_multilingual:
            raise ConfigurationError(
                f"{model} is a Whisper for one language; name one without '.en' in its name"
            )

    def detect_language(self, y: NDArray[np.float32]) -> dict[str, float]:
        """Return the probability of each language, by its code, in samples of a window."""
        (found,) = self._model.detect_language(self._listen(y))
        return {_token_to_code(token): float(probability) for token, probability in found}

    def transcribe(self, y: NDArray[np.float32], language: str) -> Hypothesis:
        """Write what is said in samples of a window, in a language that is given by its code."""
        own = {iso: code for code, iso in ISO_CODES.items()}.get(language, language)
        prompt = ["<|startoftranscript|>", f"<|{own}|>", "<|transcribe|>"]
        (found,) = self._model.generate(
            self._listen(y),
            [prompt],
            beam_size=BEAMS,
            max_length=2 * MAX_TOKENS,  # it halves this, to leave room for a prompt
            return_scores=True,
            return_no_speech_prob=True,
        )
        return Hypothesis(
            tokens=list(found.sequences[0]),
            mean_log_probability=float(found.scores[0]),
            no_speech_probability=float(found.no_speech_prob),
        )

    def _listen(self, y: NDArray[np.float32]) -> Any:
        import ctranslate2

        features = compute_features(y, self._model.n_mels)
        return ctranslate2.StorageView.from_array(features[None])


def compute_features(y: NDArray[np.float32], bands: int) -> NDArray[np.float32]:
    """Compute what Whisper listens to.

    Parameters
    ----------
    y : np.ndarray [shape=(n,) or (channels, n)]
        Samples at 16 kHz; at most 30 s count, and silence follows fewer.
    bands : int > 0
        80, or 128 for the latest models.

    Returns
    -------
    np.ndarray [shape=(bands, 3000)], dtype float32
        Logarithms of mel power, of which the largest 8 decades are kept, shifted to about [-1, 1].
    """
    import numpy as np

    samples = round(WINDOW_S * SAMPLE_RATE_HZ)
    mono = Audio(y=y[..., :samples], sr=SAMPLE_RATE_HZ).mono().y
    padded = np.pad(mono, (0, samples - len(mono)))
    power = compute_mel_power(
        padded, SAMPLE_RATE_HZ, n_fft=N_FFT, hop_length=HOP_LENGTH, n_mels=bands
    )[:, :-1]
    levels = np.log10(np.maximum(power, np.float32(FLOOR)))
    levels = np.maximum(levels, levels.max() - np.float32(RANGE))
    return np.ascontiguousarray((levels + np.float32(4)) / np.float32(4))


def decode_tokens(tokens: Iterable[str]) -> str:
    """Return the text of tokens, whose characters stand for the bytes of UTF-8.

    A printable character of Latin-1 stands for itself, and the others, in their order, are shown as
    the characters from U+0100 on. What is not UTF-8 becomes a question mark in a diamond.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(printable)]
    shown = {chr(byte): byte for byte in printable}
    shown |= {chr(0x100 + number): byte for number, byte in enumerate(others)}
    return bytes(shown[c] for token in tokens for c in token if c in shown).decode(
        "utf-8", "replace"
    )


def _token_to_code(token: str) -> str:
    code = token.strip("<|>")
    return ISO_CODES.get(code, code)
