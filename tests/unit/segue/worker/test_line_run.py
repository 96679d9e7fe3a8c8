"""A line gives the same artifacts in one task and in many, and decodes the source once."""

from __future__ import annotations

import math
import struct
import wave
from io import BytesIO
from pathlib import Path

import pytest

from segue.adapters.connect import connect_store
from segue.errors import Kind
from segue.model.artifact import Lineage
from segue.model.graph import Graph, parse_graph
from segue.model.record import State
from segue.model.transitions import Result
from segue.testing.trial import Trial, run_tasks
from segue.worker.task import Task

GRAPH = """
jobs:
  half: {run: "sound_jobs:half", needs: {media: source}, writes: audio/flac}
  peak: {run: "sound_jobs:peak", needs: {media: source}, writes: application/json}
  level: {run: "sound_jobs:level", needs: {audio: half}, writes: application/json}
  arrays: {run: "sound_jobs:arrays", needs: {audio: half, level: level}, writes: application/x-npz}
  spoilt: {run: "segue_support.jobs:change_input", needs: {value: level}, writes: application/json}
  total: {run: "sound_jobs:total", needs: {arrays: arrays, level: level}, writes: application/json}
"""
JOBS = """
import os
from segue.media.audio import Audio

def half(media):
    audio = media.audio()
    _count(media)
    return Audio(y=audio.y * 0.5, sr=audio.sr)

def peak(media):
    _count(media)
    return {"peak": float(abs(media.audio().y).max())}

def _count(media):
    with open(media.path + ".decoded", "a") as file:
        file.write(f"{media.audio().y.ctypes.data} ")

def level(audio):
    return {"rms": float((audio.y ** 2).mean() ** 0.5)}

def arrays(audio, level):
    return {"y": audio.y[:100] * level["rms"], "sr": audio.sr}

def total(arrays, level):
    return {"total": float(arrays["y"].sum()) + level["rms"], "keys": sorted(level)}
"""


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    Path(tmp_path, "sound_jobs.py").write_text(JOBS)
    return Trial(str(tmp_path))


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return parse_graph(GRAPH, path=str(tmp_path / "jobs.yaml"))


def _build_tone() -> bytes:
    """Return a quarter of a second of a sine with odd samples, so that halving them must round."""
    out = BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        samples = (int(20_001 * math.sin(0.3 * n)) | 1 for n in range(2000))
        file.writeframes(b"".join(struct.pack("<h", s) for s in samples))
    return out.getvalue()


def _list_artifacts(results: dict[str, Result]) -> dict[str, str]:
    assert {r.state for r in results.values()} == {State.DONE}, results
    return {job: r.artifact or "" for job, r in results.items()}


def test_a_line_in_one_task_writes_the_same_bytes_as_in_many(trial: Trial, graph: Graph) -> None:
    media = trial.add("tone.wav", _build_tone())
    [together] = trial.run(graph, [media])
    known: dict[str, str] = {}
    again = Trial(str(Path(trial.artifacts, "again")))
    with again.pool(graph) as pool:
        for job in graph.jobs:
            [results] = run_tasks(pool, [Task(task_id=1, media=media, run=(job,), inputs=known)])
            known |= _list_artifacts(results)
            assert again.read(results[job]) == trial.read(together[job])
            assert results[job].checksum == together[job].checksum


def test_a_job_that_changes_its_input_does_not_affect_the_next(trial: Trial, graph: Graph) -> None:
    [results] = trial.run(graph, [trial.add("tone.wav", _build_tone())])
    assert b'"changed":true' in trial.read(results["spoilt"])
    assert b'"keys":["rms"]' in trial.read(results["total"])


def test_the_source_is_decoded_once_for_all_jobs_of_a_line(trial: Trial, graph: Graph) -> None:
    media = trial.add("tone.wav", _build_tone())
    trial.run(graph, [media], run=["half", "peak"])
    places = Path(f"{media.uri.removeprefix('file://')}.decoded").read_text().split()
    assert len(places) == 2
    assert len(set(places)) == 1


def test_a_damaged_source_fails_each_job_that_reads_it_and_blocks_the_others(
    trial: Trial, graph: Graph
) -> None:
    [results] = trial.run(graph, [trial.add("noise.wav", b"not a sound")])
    for job in ("half", "peak"):
        error = results[job].error
        assert error is not None
        assert error.kind == Kind.CORRUPT_MEDIA
    assert {results[j].state for j in graph.jobs} == {State.FAILED, State.BLOCKED}


def test_an_artifact_records_its_lineage(trial: Trial, graph: Graph) -> None:
    media = trial.add("tone.wav", _build_tone())
    [results] = trial.run(graph, [media])
    store = connect_store(trial.artifacts)
    name = (results["arrays"].artifact or "").removeprefix(f"{store.location}/")
    stat = store.stat(name)
    assert stat.content_type == "application/x-npz"
    lineage = Lineage.from_metadata(stat.metadata)
    assert lineage is not None
    assert (lineage.job, lineage.uri, lineage.generation) == ("arrays", media.uri, media.generation)
    assert lineage.parents == {j: results[j].artifact for j in ("half", "level")}


def test_an_existing_artifact_is_kept_and_passed_to_the_jobs_below(
    trial: Trial, graph: Graph
) -> None:
    media = trial.add("tone.wav", _build_tone())
    [first] = trial.run(graph, [media])
    store = connect_store(trial.artifacts)
    name = (first["level"].artifact or "").removeprefix(f"{store.location}/")
    other = b'{"rms":7.0}'
    store.create(name, other, content_type="application/json", metadata={}, replace=True)
    fresh = Path(trial.artifacts, "total")
    for path in [p for p in fresh.rglob("*") if p.is_file()]:
        path.unlink()
    [second] = trial.run(graph, [media])
    assert trial.read(second["level"]) == other
    assert second["level"].checksum != first["level"].checksum
    assert trial.read(second["total"]) != trial.read(first["level"])
    assert b"7.0" not in trial.read(first["half"])


def test_a_forced_job_replaces_an_existing_artifact(trial: Trial, graph: Graph) -> None:
    media = trial.add("tone.wav", _build_tone())
    [first] = trial.run(graph, [media], run=["half", "level"])
    right = trial.read(first["level"])
    store = connect_store(trial.artifacts)
    name = (first["level"].artifact or "").removeprefix(f"{store.location}/")
    store.create(name, b'{"rms":7.0}', content_type="application/json", metadata={}, replace=True)
    inputs = {"half": first["half"].artifact or ""}
    [second] = trial.run(graph, [media], run=["level"], inputs=inputs, force=["level"])
    assert trial.read(second["level"]) == right
    assert second["level"].checksum == first["level"].checksum


def test_a_parent_artifact_that_was_deleted_is_a_missing_input(trial: Trial, graph: Graph) -> None:
    media = trial.add("tone.wav", _build_tone())
    inputs = {"half": f"file://{trial.artifacts}/half/0/gone.flac"}
    [results] = trial.run(graph, [media], run=["level", "spoilt"], inputs=inputs)
    error = results["level"].error
    assert error is not None
    assert error.kind == Kind.MISSING_INPUT
    assert results["spoilt"].state is State.BLOCKED
