"""BeatNet's network in numpy, from the weights in its package [1]_.

The package itself needs PyTorch and a sound card's library; nothing of its code is run. A file of
PyTorch is a ZIP archive with a pickle that names the tensors, whose numbers are beside it.

.. [1] Heydari, M., Cwitkowitz, F., Duan, Z. "BeatNet: CRNN and particle filtering for online joint
   beat, downbeat and meter tracking." ISMIR 2021.
"""

from __future__ import annotations

import collections
import importlib.metadata
import io
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = "BeatNet/models/model_1_weights.pt"  # trained without GTZAN
FRAMES_PER_SECOND = 50
SAMPLE_RATE_HZ = 22_050
HOP_LENGTH = 441
FRAME_LENGTH = 1411
KERNEL = 10
CELLS = 150


class WeightsUnpickler(pickle.Unpickler):
    """Reads the pickle of a file of weights; it names nothing but tensors of float32."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._root = archive.namelist()[0].partition("/")[0]
        super().__init__(io.BytesIO(archive.read(f"{self._root}/data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class or function of PyTorch."""
        if name == "OrderedDict":
            return collections.OrderedDict
        if name == "_rebuild_tensor_v2":
            return self._build_tensor
        if name == "FloatStorage":
            return np.float32
        raise pickle.UnpicklingError(f"the weights name {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> bytes:
        """Return the bytes that a storage's number stands for."""
        return self._archive.read(f"{self._root}/data/{pid[2]}")

    @staticmethod
    def _build_tensor(
        storage: bytes, offset: int, size: tuple[int, ...], _strides: Any, *_: Any
    ) -> NDArray[np.float32]:
        count = int(np.prod(size))
        return np.frombuffer(storage, np.float32, count, 4 * offset).reshape(size)


def read_weights() -> dict[str, NDArray[np.float32]]:
    """Return the weights of the installed package."""
    path = importlib.metadata.distribution("BeatNet").locate_file(WEIGHTS)
    with zipfile.ZipFile(str(path)) as archive:
        weights: dict[str, NDArray[np.float32]] = WeightsUnpickler(archive).load()
    return weights


def compute_features(y: NDArray[np.float32], sr: int) -> NDArray[np.float32]:
    """Return the logarithmic spectrum in 136 bands and its increase, 50 times a second."""
    from madmom_infer.audio.signal import FramedSignalProcessor, Signal
    from madmom_infer.audio.spectrogram import (
        FilteredSpectrogramProcessor,
        LogarithmicSpectrogramProcessor,
        SpectrogramDifferenceProcessor,
    )
    from madmom_infer.audio.stft import ShortTimeFourierTransformProcessor

    if sr != SAMPLE_RATE_HZ:
        raise ValueError(f"BeatNet needs {SAMPLE_RATE_HZ} Hz, and this is {sr}; resample it first")
    frames: Any = Signal(y, sample_rate=sr, num_channels=1)
    for step in (
        FramedSignalProcessor(frame_size=FRAME_LENGTH, hop_size=HOP_LENGTH),
        ShortTimeFourierTransformProcessor(),
        FilteredSpectrogramProcessor(num_bands=24, fmin=30, fmax=17_000, norm_filters=True),
        LogarithmicSpectrogramProcessor(mul=1, add=1),
        SpectrogramDifferenceProcessor(diff_ratio=0.5, positive_diffs=True, stack_diffs=np.hstack),
    ):
        frames = step(frames)
    return np.asarray(frames, dtype=np.float32)


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logistic function."""
    return 1 / (1 + np.exp(-x))


class Network:
    """One convolution, one dense layer, two layers of LSTM, one dense layer."""

    def __init__(self) -> None:
        self._weights = read_weights()

    def activate(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how likely a beat that is no first beat, and a first beat, are in each frame."""
        w = self._weights
        windows = np.lib.stride_tricks.sliding_window_view(features, KERNEL, axis=1)
        filtered = np.einsum("tik,ck->tci", windows, w["conv1.weight"][:, 0], optimize=True)
        filtered = np.maximum(filtered + w["conv1.bias"][:, None], 0)
        half = filtered.shape[2] // 2
        pooled = filtered[:, :, : 2 * half].reshape(len(features), 2, half, 2).max(axis=3)
        x = pooled.reshape(len(features), -1) @ w["linear0.weight"].T + w["linear0.bias"]
        for layer in ("l0", "l1"):
            x = self._run_lstm(x, layer)
        logits = x @ w["linear.weight"].T + w["linear.bias"]
        power = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (power / power.sum(axis=1, keepdims=True))[:, :2]

    def _run_lstm(self, x: NDArray[np.float32], layer: str) -> NDArray[np.float32]:
        w = self._weights
        inputs = x @ w[f"lstm.weight_ih_{layer}"].T
        inputs = inputs + w[f"lstm.bias_ih_{layer}"] + w[f"lstm.bias_hh_{layer}"]
        recurrent = np.ascontiguousarray(w[f"lstm.weight_hh_{layer}"].T)
        hidden = np.zeros(CELLS, np.float32)
        cell = np.zeros(CELLS, np.float32)
        states = np.empty((len(x), CELLS), np.float32)
        for index, row in enumerate(inputs):
            gates = row + hidden @ recurrent
            opened = sigmoid(gates)
            # In the order of PyTorch: input, forget, cell, output.
            cell = opened[CELLS : 2 * CELLS] * cell + opened[:CELLS] * np.tanh(
                gates[2 * CELLS : 3 * CELLS]
            )
            hidden = opened[3 * CELLS :] * np.tanh(cell)
            states[index] = hidden
        return states
