"""GPUs are found without CUDA, and shared by the memory that jobs declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.errors import ConfigurationError
from segue.model.graph import Resources
from segue.worker import gpus
from segue.worker.gpus import Gpu, GpuShares, check_gpus, find_gpus

L4 = Resources(gpu="nvidia-l4")


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This machine has no driver, unless a test says so."""
    monkeypatch.setattr(gpus, "NVIDIA_SMI", (str(tmp_path / "nvidia-smi"),))
    monkeypatch.setattr(gpus, "DEVICES", str(tmp_path / "nvidia[0-9]*"))


@pytest.fixture
def driver(tmp_path: Path) -> None:
    """Install a driver that reports two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        """#!/bin/sh
[ "$1" = --query-gpu=index,uuid,memory.total ] || exit 1
[ "$2" = --format=csv,noheader,nounits ] || exit 1
echo "0, GPU-11111111-2222-3333-4444-555555555555, 23034"
echo "1, GPU-66666666-7777-8888-9999-000000000000, [N/A]"
"""
    )
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, []),
        ({"SEGUE_GPUS": "2"}, ["0", "1"]),
        ({"SEGUE_GPUS": "0"}, []),
        ({"SEGUE_GPUS": "1,"}, ["1"]),
        ({"SEGUE_GPUS": " 3, 1 "}, ["3", "1"]),
        ({"SEGUE_GPUS": "0,0"}, ["0"]),
        ({"SEGUE_GPUS": "GPU-11111111-2222"}, ["GPU-11111111-2222"]),
        ({"SEGUE_GPUS": "MIG-GPU-1a/2/3"}, ["MIG-GPU-1a/2/3"]),
        ({"SEGUE_GPUS": "", "CUDA_VISIBLE_DEVICES": "1,3"}, ["1", "3"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"SEGUE_GPUS": "1", "CUDA_VISIBLE_DEVICES": "3"}, ["3"]),
        ({"SEGUE_GPUS": "2", "CUDA_VISIBLE_DEVICES": "3"}, ["3", "0"]),
    ],
)
def test_the_environment_says_which_gpus_may_be_used(
    environ: dict[str, str], found: list[str]
) -> None:
    assert [gpu.id for gpu in find_gpus(environ)] == found


@pytest.mark.parametrize("text", ["two", "0 1", "-1", "0;1"])
def test_what_names_no_gpus_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SEGUE_GPUS names '{text}'; write how many"):
        find_gpus({"SEGUE_GPUS": text})


@pytest.mark.usefixtures("driver")
def test_the_driver_says_which_gpus_there_are_and_how_large() -> None:
    large, unknown = find_gpus({})
    assert (large.id, unknown) == ("0", Gpu(id="1"))
    assert large.memory_gib == pytest.approx(22.494, abs=0.001)
    assert find_gpus({"SEGUE_GPUS": "1"}) == (large,)
    assert find_gpus({"SEGUE_GPUS": "1,0"}) == (unknown, large)
    name = "GPU-11111111-2222-3333-4444-555555555555"
    assert find_gpus({"CUDA_VISIBLE_DEVICES": name})[0].memory_gib == large.memory_gib


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"SEGUE_GPUS": "3"},
            "SEGUE_GPUS is 3, and the GPUs here are 0, 1; ask for no others",
        ),
        ({"SEGUE_GPUS": "0,2"}, "SEGUE_GPUS names 2, and the GPUs here are 0, 1"),
        (
            {"SEGUE_GPUS": "2", "CUDA_VISIBLE_DEVICES": "1"},
            "SEGUE_GPUS is 2, and the GPUs here are 1;",
        ),
        (
            {"SEGUE_GPUS": "1", "CUDA_VISIBLE_DEVICES": ""},
            "SEGUE_GPUS is 1, and there are no GPUs here",
        ),
    ],
)
def test_more_gpus_than_the_driver_reports_are_refused(
    environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        find_gpus(environ)


def test_a_machine_without_the_drivers_program_is_asked_for_its_devices(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia10", "nvidia2", "nvidiactl"):
        (tmp_path / name).touch()
    assert [gpu.id for gpu in find_gpus({})] == ["0", "2", "10"]


def test_a_job_that_needs_a_gpu_where_there_is_none_says_how_to_get_one() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_gpus({"mood": L4}, ())
    assert "job 'mood' needs a GPU (nvidia-l4), and this worker has none" in str(caught.value)
    assert "worker_accelerator=type:nvidia-l4;count:1" in str(caught.value)
    check_gpus({"mood": L4}, (Gpu(id="0"),))
    check_gpus({}, ())


def need(gib: float | None) -> Resources:
    return Resources(gpu="nvidia-l4", gpu_memory_gib=gib)


def test_a_job_has_one_child_on_each_gpu() -> None:
    shares = GpuShares([Gpu(id="0"), Gpu(id="1")], {"job": need(1)})
    assert shares.count_children() == {"job": 2}
    assert shares.find_gpu("job", []) == "0"
    assert shares.find_gpu("job", [("0", "job")]) == "1"
    assert shares.find_gpu("job", [("0", "job"), ("1", "job")]) is None


@pytest.mark.parametrize(
    ("memory_gib", "declared", "fits"),
    [
        (None, (11.25, 11.25), True),
        (None, (11.25, 11.3), False),
        (None, (7.5, 7.5, 7.5), True),
        (16.0, (7.5, 7.5, 7.5), False),
        (16.0, (20,), True),  # more than there is: alone on its GPU
        (16.0, (20, 0.1), False),
        (None, (None,), True),  # all that there is
        (None, (None, 0.1), False),
    ],
)
def test_jobs_share_a_gpu_if_their_memory_fits(
    memory_gib: float | None, declared: tuple[float | None, ...], fits: bool
) -> None:
    needs = {str(number): need(gib) for number, gib in enumerate(declared)}
    shares = GpuShares([Gpu(id="0", memory_gib=memory_gib)], needs)
    *others, job = needs
    assert shares.has_room("0", job, others) == fits


def test_a_child_goes_to_the_gpu_with_the_fewest_that_has_room() -> None:
    needs = {"whole": need(None), "half": need(11), "third": need(7.5), "large": need(15)}
    shares = GpuShares([Gpu(id="0"), Gpu(id="1")], needs)
    assert shares.find_gpu("whole", []) == "0"
    assert shares.find_gpu("whole", [("0", "third")]) == "1"
    assert shares.find_gpu("whole", [("0", "third"), ("1", "whole")]) is None
    assert shares.find_gpu("half", [("0", "large"), ("1", "large")]) is None
    assert shares.find_gpu("third", [("0", "whole"), ("1", "large")]) == "1"
    assert shares.find_gpu("third", [("0", "half")]) == "1"


def test_a_machine_without_gpus_has_no_children_on_them() -> None:
    assert GpuShares((), {"job": L4}).count_children() == {}
