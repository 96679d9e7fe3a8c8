"""Learned models: get them, keep them on this machine, and run those in ONNX."""

from segue.models.onnx_session import open_onnx

__all__ = ["open_onnx"]
