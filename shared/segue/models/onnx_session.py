"""Opens an ONNX model for a job: on one core, or on a GPU, and the same each time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError
from segue.extras import MissingExtra, format_hint

if TYPE_CHECKING:
    import onnxruntime

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
VISIBLE = "CUDA_VISIBLE_DEVICES"  # a job's GPU


def open_onnx(
    path: str | os.PathLike[str], *, gpu: bool | None = False, threads: int = 1
) -> onnxruntime.InferenceSession:
    """Open an ONNX model.

    Parameters
    ----------
    path : path
        Of an ``.onnx`` file, such as a job gets for a parameter that names a model.
    gpu : bool or None
        Run on a GPU of Nvidia, in deterministic kernels, as far as the model's operators have them;
        needs Segue's extra ``models-gpu``. None: if the job has a GPU, as one with
        ``resources: {gpu: ...}`` has where there is any, and otherwise on the processor.
    threads : int > 0
        How many threads an operator may use. A worker has a child process for each core, so more
        than one is for a job that runs alone.

    Raises
    ------
    ConfigurationError
        If a GPU is asked for, and onnxruntime has none.
    MissingExtra
        If onnxruntime is not installed.
    """
    if gpu is None:
        gpu = bool(os.environ.get(VISIBLE))
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtra("an ONNX model", "models-gpu" if gpu else "models") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors; warnings tell of operators, and not of files
    # A thread that waits for the next operator by turning in circles takes another child's core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if gpu:
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA and cuDNN may be Python packages
        if CUDA not in onnxruntime.get_available_providers():
            raise ConfigurationError(
                f"onnxruntime has no GPU here; {format_hint('models-gpu')} on a machine with a GPU "
                f"of Nvidia, or leave gpu and {VISIBLE} out"
            )
    providers = [CUDA, CPU] if gpu else [CPU]
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    if gpu and CUDA not in session.get_providers():
        raise ConfigurationError(
            "onnxruntime cannot use the GPU of this machine; check the driver with nvidia-smi, and "
            "that CUDA and cuDNN are of the versions that onnxruntime-gpu needs"
        )
    return session
