"""Writes ``musicnn.json``: what TensorFlow computes with the graph and weights of musicnn 0.1.0.

It needs TensorFlow 2 (2.21 was used) and the wheel of musicnn, unpacked: neither is a dependency of
Segue. The graph is the one that was saved with the weights, without its gradients::

    python tests/golden/make_musicnn.py FOLDER/musicnn/MSD_musicnn
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
LOGITS = "model/dense_1/BiasAdd"


def compute(folder: Path) -> dict[str, list[list[float]]]:
    """Return the tags and the embeddings of two patches of noise."""
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    meta = tf.compat.v1.MetaGraphDef()
    meta.ParseFromString((folder / ".meta").read_bytes())
    for node in meta.graph_def.node:
        node.attr.pop("_output_shapes", None)  # of gradients, and wrong for this version
    with tempfile.TemporaryDirectory() as copy, tf.Graph().as_default() as graph:
        for suffix in ("index", "data-00000-of-00001"):
            shutil.copy(folder / f".{suffix}", Path(copy) / f"weights.{suffix}")
        weights = tf.train.load_checkpoint(str(Path(copy) / "weights"))
        tf.import_graph_def(
            tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, [LOGITS]), name=""
        )
        given = {}
        for operation in graph.get_operations():
            if operation.type == "VariableV2":
                name = operation.name.removeprefix("model/")
                given[operation.outputs[0]] = weights.get_tensor(
                    name if weights.has_tensor(name) else operation.name
                )
            elif operation.type == "Placeholder":
                is_training = operation.outputs[0].dtype == tf.bool
                x = np.random.default_rng(0).random((2, 187, 96), dtype=np.float32) * 4
                given[operation.outputs[0]] = False if is_training else x
        logits = graph.get_tensor_by_name(f"{LOGITS}:0")
        embedding = logits.op.inputs[0].op.inputs[0]
        with tf.compat.v1.Session(graph=graph) as session:
            found = session.run([tf.sigmoid(logits), embedding], given)
    return {
        n: v.astype(float).round(7).tolist()
        for n, v in zip(("tags", "embedding"), found, strict=True)
    }


def main() -> None:
    text = json.dumps(compute(Path(sys.argv[1]))) + "\n"
    (HERE / "musicnn.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
