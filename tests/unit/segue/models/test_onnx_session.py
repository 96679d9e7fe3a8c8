"""An ONNX model is opened for one core; a GPU that is not there is named."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from segue.errors import ConfigurationError
from segue.extras import MissingExtra
from segue.models import open_onnx
from segue_support.onnx_models import make_scale


@pytest.fixture
def path(tmp_path):
    (tmp_path / "scale.onnx").write_bytes(make_scale(2.0))
    return tmp_path / "scale.onnx"


def test_a_model_is_opened_with_one_thread_and_runs(path):
    session = open_onnx(path)
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.use_deterministic_compute
    (mean,) = session.run(["mean"], {"x": np.arange(5, dtype=np.float32)})
    assert mean == [4.0]


def test_more_threads_are_used_if_they_are_asked_for(path):
    assert open_onnx(str(path), threads=2).get_session_options().intra_op_num_threads == 2


def test_a_gpu_that_is_not_there_is_named_with_the_remedy(path):
    with pytest.raises(ConfigurationError, match=r"segue-features\[models-gpu\]"):
        open_onnx(path, gpu=True)


def test_a_job_runs_on_its_gpu_if_it_has_one(path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert open_onnx(path, gpu=None).get_providers() == ["CPUExecutionProvider"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ConfigurationError, match="CUDA_VISIBLE_DEVICES"):
        open_onnx(path, gpu=None)


@pytest.mark.parametrize(("gpu", "extra"), [(False, "models"), (True, "models-gpu")])
def test_without_onnxruntime_the_extra_is_named(path, monkeypatch, gpu, extra):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=rf"'segue-features\[{extra}\]'"):
        open_onnx(path, gpu=gpu)
