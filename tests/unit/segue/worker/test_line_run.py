"""A line gives the same artifacts in one task and in many, and decodes the source once."""

from __future__ import annotations

import math
import shutil
import struct
import wave
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.adapters.folder import FolderStore
from segue.clock import utc_now
from segue.errors import Kind, Superseded
from segue.model.artifact import Lineage, compute_checksum
from segue.model.graph import parse_graph
from segue.model.job_code import make_importable
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.model.transitions import Result, arrive, claim
from segue.worker.line_run import Claims, LineRun, Stores, load_job
from segue.worker.protocol import Task
from segue_support.trial import Trial, run_tasks

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


class Line:
    """One pool for all tests; each test has files of its own."""

    def __init__(self, folder: Path) -> None:
        Path(folder, "sound_jobs.py").write_text(JOBS)
        self.graph = parse_graph(GRAPH, path=str(folder / "jobs.yaml"))
        self.trial = Trial(str(folder))
        self.ledger = f"sqlite:///{folder}/ledger.db"
        self.pool = self.trial.pool(self.graph, ledger=self.ledger)
        self._count = 0

    def add(self, data: bytes | None = None) -> MediaFile:
        self._count += 1
        return self.trial.add(f"{self._count}.wav", _build_tone() if data is None else data)

    def run(self, media: MediaFile, *run: str, **more: Any) -> dict[str, Result]:
        """Run jobs, by default all; return their results."""
        task = Task(task_id=1, media=media, run=run or tuple(self.graph.jobs), **more)
        [results] = run_tasks(self.pool, [task])
        return results

    def claim(self, media: MediaFile, owner: str) -> None:
        """Give an owner all jobs of a file."""
        record, _ = arrive(None, media, utc_now())
        claimed = claim(
            record, self.graph, self.graph.jobs, owner=owner, now=utc_now(), lease_s=60.0
        )
        ledger = connect_ledger(self.ledger)
        ledger.change([Change(uri=media.uri, transition=lambda _: (claimed, None))])
        ledger.close()

    def replace(self, result: Result, data: bytes) -> None:
        """Replace an artifact."""
        store = connect_store(self.trial.artifacts)
        (name,) = result.artifacts
        store.create(name, data, content_type="application/json", metadata={}, replace=True)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    line = Line(tmp_path_factory.mktemp("line"))
    with line.pool:
        yield line


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
    return {job: min(r.artifacts, default="") for job, r in results.items()}


def test_a_line_in_one_task_writes_the_same_bytes_as_in_many(line: Line, tmp_path: Path) -> None:
    media = line.add()
    together = line.run(media)
    known: dict[str, str] = {}
    again = Trial(str(tmp_path))
    with again.pool(line.graph) as pool:
        for job in line.graph.jobs:
            [results] = run_tasks(pool, [Task(task_id=1, media=media, run=(job,), inputs=known)])
            known |= _list_artifacts(results)
            assert again.read(results[job]) == line.trial.read(together[job])
            assert results[job].artifacts == together[job].artifacts


def test_a_job_that_changes_its_input_does_not_affect_the_next(line: Line) -> None:
    results = line.run(line.add())
    assert b'"changed":true' in line.trial.read(results["spoilt"])
    assert b'"keys":["rms"]' in line.trial.read(results["total"])


def test_the_source_is_decoded_once_for_all_jobs_of_a_line(line: Line) -> None:
    media = line.add()
    line.run(media, "half", "peak")
    places = Path(f"{media.uri.removeprefix('file://')}.decoded").read_text().split()
    assert len(places) == 2
    assert len(set(places)) == 1


def test_a_damaged_source_fails_each_job_that_reads_it_and_blocks_the_others(line: Line) -> None:
    results = line.run(line.add(b"not a sound"))
    for job in ("half", "peak"):
        error = results[job].error
        assert error is not None
        assert error.kind == Kind.CORRUPT_MEDIA
    assert {results[j].state for j in line.graph.jobs} == {State.FAILED, State.BLOCKED}


def test_an_artifact_records_its_lineage(line: Line) -> None:
    media = line.add()
    results = line.run(media)
    store = connect_store(line.trial.artifacts)
    name = f"arrays/{line.graph.fingerprints['arrays']}{media.uri[7:]}/{media.version}.npz"
    assert list(results["arrays"].artifacts) == [name]
    stat = store.stat(name)
    assert stat.content_type == "application/x-npz"
    lineage = Lineage.from_metadata(stat.metadata)
    assert lineage is not None
    assert (lineage.job, lineage.uri, lineage.version) == ("arrays", media.uri, media.version)
    assert lineage.parents == {j: min(results[j].artifacts) for j in ("half", "level")}


def test_artifacts_may_move_to_another_location(line: Line, tmp_path: Path) -> None:
    media = line.add()
    first = line.run(media, "half", "level")
    moved = Trial(str(tmp_path))
    shutil.copytree(line.trial.artifacts, moved.artifacts)
    inputs = {job: min(r.artifacts) for job, r in first.items()}
    with moved.pool(line.graph) as pool:
        [results] = run_tasks(pool, [Task(task_id=1, media=media, run=("arrays",), inputs=inputs)])
    assert results["arrays"].state is State.DONE
    assert moved.read(results["arrays"])


def test_a_source_of_another_version_is_not_read(line: Line) -> None:
    media = line.add()
    overwritten = msgspec.structs.replace(media, version="0" * 24, stat=None)
    [result] = line.run(overwritten, "peak").values()
    assert (result.state, result.error and result.error.kind) == (State.QUEUED, Kind.SUPERSEDED)


def test_a_source_that_was_only_touched_is_read(line: Line) -> None:
    media = line.add()
    touched = msgspec.structs.replace(media, stat="0:0:0:0:0")
    [result] = line.run(touched, "peak").values()
    assert result.state is State.DONE
    (name,) = result.artifacts
    assert name.endswith(f"/{media.version}.json")


def test_a_source_that_is_gone_may_come_back(line: Line) -> None:
    media = line.add()
    path = Path(media.uri.removeprefix("file://"))
    path.rename(f"{path}.away")
    [result] = line.run(media, "peak").values()
    assert (result.state, result.error and result.error.kind) == (State.QUEUED, Kind.SUPERSEDED)
    Path(f"{path}.away").rename(path)
    assert line.run(media, "peak")["peak"].state is State.DONE


@pytest.mark.parametrize(
    ("change", "state", "kind"),
    [
        ("pass", State.FAILED, Kind.JOB_RAISED),
        ("os.utime(media.path)", State.FAILED, Kind.JOB_RAISED),
        ("os.unlink(media.path)", State.QUEUED, Kind.SUPERSEDED),
        ("open(media.path, 'wb').close()", State.QUEUED, Kind.SUPERSEDED),
    ],
)
def test_a_job_that_fails_while_its_file_is_changed_says_nothing_about_the_file(
    tmp_path: Path, change: str, state: State, kind: Kind
) -> None:
    (tmp_path / "bad_jobs.py").write_text(
        f"import os\n\ndef bad(media):\n    {change}\n    raise ValueError('half a file')\n"
    )
    graph = parse_graph(
        'jobs: {bad: {run: "bad_jobs:bad", needs: {media: source}, writes: application/json}}',
        path=str(tmp_path / "jobs.yaml"),
    )
    trial = Trial(str(tmp_path))
    [results] = trial.run(graph, [trial.add("a.wav")])
    result = results["bad"]
    assert (result.state, result.error and result.error.kind) == (state, kind)


def test_an_artifact_of_the_same_name_is_replaced_under_the_claim(line: Line) -> None:
    media = line.add()
    first = line.run(media)
    right = {job: line.trial.read(result) for job, result in first.items()}
    line.replace(first["level"], b'{"rms":7.0}')
    line.claim(media, "me")
    second = line.run(media, owner="me")
    assert {job: line.trial.read(result) for job, result in second.items()} == right
    assert second["level"].artifacts == first["level"].artifacts


@pytest.mark.parametrize("holder", ["another", None])
def test_whoever_lost_the_claim_replaces_nothing(line: Line, holder: str | None) -> None:
    media = line.add()
    first = line.run(media, "half", "level")
    line.replace(first["level"], b'{"rms":7.0}')
    if holder is not None:
        line.claim(media, holder)
    inputs = {"half": min(first["half"].artifacts)}
    second = line.run(media, "level", "spoilt", inputs=inputs, owner="me")
    assert {r.state for r in second.values()} == {State.QUEUED}
    assert {r.error and r.error.kind for r in second.values()} == {Kind.SUPERSEDED}
    assert line.trial.read(first["level"]) == b'{"rms":7.0}'


def test_a_claim_that_is_lost_during_the_write_replaces_nothing(line: Line, tmp_path: Path) -> None:
    media = line.add()
    first = line.run(media, "peak")
    line.replace(first["peak"], b"old")

    class Overtaken(Claims):
        """Another worker takes the claim, and writes, right after it was checked."""

        held = True

        def renew(self, task: Task, job: str) -> bool:
            held, self.held = self.held, False
            line.replace(first["peak"], b"of the new holder")
            return held

    stores = Stores(connect_store, line.trial.artifacts)
    make_importable(line.graph)
    task = Task(task_id=1, media=media, run=("peak",))
    run = LineRun(task, stores, str(tmp_path), Overtaken())
    with pytest.raises(Superseded, match="taken over 'peak'"):
        run.write(load_job(line.graph, "peak"), {"peak": 0.5})
    assert line.trial.read(first["peak"]) == b"of the new holder"


def test_a_write_whose_answer_was_lost_is_repeated_under_the_claim(
    line: Line, tmp_path: Path
) -> None:
    """The store cannot tell a retry of the write from one of somebody else."""
    written: list[bytes] = []

    class Distant(FolderStore):
        def create(self, name: str, data: bytes, **more: Any) -> bool:
            if super().create(name, data, **more):
                written.append(data)
            return len(written) == 3

    media = line.add()
    make_importable(line.graph)
    task = Task(task_id=1, media=media, run=("peak",))
    stores = Stores(Distant, str(tmp_path / "artifacts"))
    artifacts = LineRun(task, stores, str(tmp_path), Claims()).write(
        load_job(line.graph, "peak"), {"peak": 0.5}
    )
    assert len(written) == 3
    ((name, checksum),) = artifacts.items()
    assert compute_checksum((tmp_path / "artifacts" / name).read_bytes()) == checksum


def test_a_parent_artifact_that_has_changed_is_not_read(line: Line) -> None:
    media = line.add()
    first = line.run(media, "half", "level")
    inputs = {job: min(r.artifacts) for job, r in first.items()}
    checksums = {job: c for job, r in first.items() for c in r.artifacts.values()}
    whole = line.run(media, "arrays", inputs=inputs, checksums=checksums)
    assert whole["arrays"].state is State.DONE
    line.replace(first["level"], b'{"rms":7.0}')
    results = line.run(media, "spoilt", "arrays", "total", inputs=inputs, checksums=checksums)
    for job in ("spoilt", "arrays"):
        error = results[job].error
        assert error is not None
        assert (results[job].state, results[job].damaged) == (State.QUEUED, "level")
        assert error.kind == Kind.DAMAGED_INPUT
        assert inputs["level"] in error.message
    assert (results["total"].state, results["total"].damaged) == (State.QUEUED, None)


def test_a_parent_artifact_that_was_deleted_is_damaged_too(line: Line) -> None:
    inputs = {"half": "half/0/gone.flac"}
    results = line.run(line.add(), "level", "spoilt", inputs=inputs)
    error = results["level"].error
    assert error is not None
    assert error.kind == Kind.DAMAGED_INPUT
    assert results["level"].damaged == "half"
    assert "gone.flac" in error.message
    assert results["spoilt"].state is State.QUEUED
