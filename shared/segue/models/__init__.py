"""Learned models: get them, keep them on this machine, and run those in ONNX."""
