"""A job with a GPU runs in one child per GPU, and jobs share a GPU by the memory they declare."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from segue.errors import ConfigurationError
from segue.model.graph import Graph, parse_graph
from segue.model.record import State
from segue.model.transitions import Result
from segue.worker.protocol import Task
from segue_support.trial import Trial, run_tasks

CODE = """
import os, signal, time

def before(media):
    return os.getpid()

class Model:
    batch_size = 4
    batch_wait_s = 0.2

    def setup(self):
        self.loaded = [os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")]
        with open(os.environ["NOTED"], "a+") as file:
            file.seek(0)
            before = [line.split()[0] for line in file]
            beside = sum(os.path.exists(f"/proc/{process}") for process in before)
            file.write(f"{os.getpid()} {beside}\\n")

    def batch(self, inputs):
        time.sleep(0.05)
        return [
            {"gpu": self.loaded[1], "process": self.loaded[0], "files": len(inputs)} for _ in inputs
        ]

class Other(Model):
    pass

class Killed(Model):
    def batch(self, inputs):
        with open(os.environ["NOTED"] + "-killed", "a") as file:
            file.write("x")
            file.flush()
            if file.tell() <= 2:  # a batch, and then a file of it
                os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(inputs)

def single(value):
    return {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "process": os.getpid()}

def after(value) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")
"""


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    Path(tmp_path, "gpu_jobs.py").write_text(CODE)
    monkeypatch.setenv("NOTED", str(tmp_path / "noted"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = tmp_path / "bin" / "nvidia-smi"  # of a machine with two GPUs
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 0, GPU-1, 23034\necho 1, GPU-2, 23034\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(driver.parent), prepend=os.pathsep)
    Path(tmp_path, "noted").touch()
    return Trial(str(tmp_path))


def build_graph(folder: Path, **jobs: str) -> Graph:
    """Return a graph of jobs with these resources, each between two others."""
    lines = ["jobs:", "  before: {run: 'gpu_jobs:before', needs: {media: source}, writes: JSON}"]
    for name, resources in jobs.items():
        run = "single" if name.startswith("single") else name.capitalize()
        needs, gpu = "{value: before}", f"{{gpu: nvidia-l4{resources}}}"
        lines += [
            f"  {name}: {{run: 'gpu_jobs:{run}', needs: {needs}, writes: JSON, resources: {gpu}}}",
            f"  after_{name}: {{run: 'gpu_jobs:after', needs: {{value: {name}}}, writes: JSON}}",
        ]
    text = "\n".join(lines).replace("JSON", "application/json")
    return parse_graph(text, path=str(folder / "jobs.yaml"))


def run_files(trial: Trial, graph: Graph, count: int, **options: int) -> list[dict[str, Result]]:
    tasks = [
        Task(task_id=n, media=trial.add(f"{n:03}"), run=tuple(graph.jobs)) for n in range(count)
    ]
    with trial.pool(graph, **options) as pool:
        results = run_tasks(pool, tasks)
    assert {r.state for found in results for r in found.values()} == {State.DONE}
    return results


def read_all(trial: Trial, results: Sequence[dict[str, Result]], job: str) -> list[dict[str, int]]:
    return [json.loads(trial.read(found[job])) for found in results]


def test_a_job_has_one_child_on_each_gpu_and_the_line_runs_in_ordinary_ones(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_GPUS", "2")
    graph = build_graph(tmp_path, model="")
    results = run_files(trial, graph, 48, processes=3)
    found = read_all(trial, results, "model")
    assert {f["files"] for f in found} == {4}
    used = {(f["gpu"], f["process"]) for f in found}
    assert sorted(gpu for gpu, _ in used) == ["0", "1"]
    loads = [line.split()[0] for line in (tmp_path / "noted").read_text().splitlines()]
    assert sorted(loads) == sorted(str(process) for _, process in used)  # each loaded it once
    ordinary = set(read_all(trial, results, "before"))  # type: ignore[arg-type]
    assert ordinary.isdisjoint(process for _, process in used)
    assert len(ordinary) <= 3
    assert set(read_all(trial, results, "after_model")) == {None}  # type: ignore[arg-type]


def test_a_job_that_takes_no_batches_has_its_own_child_on_a_gpu_too(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_GPUS", "1,")
    results = run_files(trial, build_graph(tmp_path, single=""), 20, processes=2)
    found = read_all(trial, results, "single")
    assert {f["gpu"] for f in found} == {"1"}
    assert len({f["process"] for f in found}) == 1


@pytest.mark.parametrize(("gib", "loads"), [("", None), (", gpu_memory_gib: 11", 2)])
def test_two_jobs_share_a_gpu_or_take_turns(
    trial: Trial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gib: str,
    loads: int | None,
) -> None:
    monkeypatch.setenv("SEGUE_GPUS", "1")
    results = run_files(trial, build_graph(tmp_path, model=gib, other=gib), 24, processes=2)
    found = [*read_all(trial, results, "model"), *read_all(trial, results, "other")]
    assert {f["gpu"] for f in found} == {"0"}
    noted = [line.split() for line in (tmp_path / "noted").read_text().splitlines()]
    if loads is None:  # each has the whole GPU for itself, as long as it has tasks
        assert 2 <= len(noted) <= 4
        assert {beside for _, beside in noted} == {"0"}
    else:
        assert len(noted) == loads
        assert noted[1][1] == "1"


def test_a_file_that_runs_while_nothing_else_does_gets_the_gpu_for_each_of_its_jobs(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_GPUS", "1")
    graph = build_graph(tmp_path, killed="", other="")
    run_files(trial, graph, 9, processes=1)


def test_without_a_gpu_the_job_runs_in_ordinary_children(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_GPUS", "0")
    results = run_files(trial, build_graph(tmp_path, model=""), 8, processes=1)
    assert [f["files"] for f in read_all(trial, results, "model")] == [4] * 8
    assert len({f["process"] for f in read_all(trial, results, "model")}) == 1


def test_where_a_gpu_is_required_its_lack_stops_the_run(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_GPUS", "0")
    graph = build_graph(tmp_path, model="")
    task = Task(task_id=1, media=trial.add("a"), run=tuple(graph.jobs))
    with (
        trial.pool(graph, requires_gpus=True) as pool,
        pytest.raises(ConfigurationError, match="job 'model' needs a GPU"),
    ):
        run_tasks(pool, [task])
    with trial.pool(graph, requires_gpus=True, jobs=["before"]) as pool:  # type: ignore[arg-type]
        run_tasks(pool, [Task(task_id=1, media=task.media, run=("before",))])


def test_gpus_that_are_named_wrongly_stop_the_run(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_GPUS", "all")
    graph = build_graph(tmp_path, model="")
    with (
        trial.pool(graph) as pool,
        pytest.raises(ConfigurationError, match="SEGUE_GPUS names 'all'"),
    ):
        run_tasks(pool, [Task(task_id=1, media=trial.add("a"), run=("before",))])
