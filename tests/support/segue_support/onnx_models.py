"""Makes small ONNX models, with an answer that is known."""

from __future__ import annotations

import numpy as np

from segue.models.onnx_writer import OnnxGraph


def make_scale(factor: float) -> bytes:
    """Return a model that multiplies ``x`` [n] by a factor, and gives the mean as ``mean`` [1]."""
    graph = OnnxGraph("scale")
    x = graph.add_input("x", ["n"])
    scaled = graph.add_node("Mul", x, graph.add_weight(np.array([factor], np.float32)))
    mean = graph.add_node("ReduceMean", scaled, axes=[0], keepdims=1)
    graph.add_output("mean", mean, [1])
    return graph.encode()
