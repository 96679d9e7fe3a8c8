"""Jobs with several outputs, and jobs that are not for a file, in real child processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segue.adapters.connect import connect_store
from segue.errors import Kind, Reason
from segue.model.artifact import Lineage, build_references
from segue.model.graph import parse_graph
from segue.model.media_file import MediaFile
from segue.model.record import State, evolve
from segue.model.transitions import Result
from segue.testing.sound import tone, write
from segue.worker.protocol import Task
from segue_support.trial import Trial, run_tasks

GRAPH = """
jobs:
  stems:
    run: "output_jobs:stems"
    needs: {media: source}
    writes: {vocals: application/json, rest: application/x-npz}
  words: {run: "output_jobs:words", needs: {vocals: stems.vocals}, writes: application/json}
  both:
    run: "output_jobs:both"
    needs: {vocals: stems.vocals, rest: stems.rest}
    writes: application/json
  loud:
    run: "output_jobs:loud"
    needs: {media: source}
    accepts: [audio/*]
    writes: application/json
  louder: {run: "output_jobs:after", needs: {value: loud}, writes: application/json}
  late:
    run: "output_jobs:after"
    needs: {value: words}
    accepts: [audio/flac, image/png]
    writes: application/json
  sounds:
    run: "output_jobs:Sounds"
    needs: {media: source}
    accepts: [audio/*]
    writes: application/json
  many: {run: "output_jobs:Many", needs: {vocals: stems.vocals}, writes: application/json}
"""
JOBS = """
import os
import numpy as np
from segue import NotApplicable

def stems(media):
    name = os.path.basename(media.uri)
    value = {"vocals": {"name": name}, "rest": {"y": np.arange(3)}}
    if "one" in name:
        del value["rest"]
    if "three" in name:
        value["more"] = 1
    if "list" in name:
        return list(value.values())
    if "wrong" in name:
        value["rest"] = "no arrays"
    return value

def words(vocals):
    if "silent" in vocals["name"]:
        raise NotApplicable("there is no speech in it")
    return {"words": vocals["name"]}

def both(vocals, rest):
    return {"sum": int(rest["y"].sum()), "name": vocals["name"]}

def loud(media):
    return {"samples": len(media.audio().y)}

def after(value):
    return {"after": value}

class Sounds:
    batch_size = 4
    def __call__(self, media):
        return self.batch([{"media": media}])[0]
    def batch(self, inputs):
        return [{"files": len(inputs)} for _ in inputs]

class Many:
    batch_size = 4
    def __call__(self, vocals):
        return self.batch([{"vocals": vocals}])[0]
    def batch(self, inputs):
        names = [each["vocals"]["name"] for each in inputs]
        return [NotApplicable(n) if "silent" in n else {"files": len(names)} for n in names]
"""


class Place:
    """One pool for all tests; each test has files of its own."""

    def __init__(self, folder: Path) -> None:
        Path(folder, "output_jobs.py").write_text(JOBS)
        self.graph = parse_graph(GRAPH, path=str(folder / "jobs.yaml"))
        self.trial = Trial(str(folder))
        self.store = connect_store(self.trial.artifacts)
        self.pool = self.trial.pool(self.graph)

    def run(self, media: MediaFile, *run: str, **more: Any) -> dict[str, Result]:
        task = Task(task_id=1, media=media, run=run, **more)
        [results] = run_tasks(self.pool, [task])
        return results


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("outputs"))
    with place.pool:
        yield place


def test_one_execution_writes_all_outputs_with_their_lineage(place: Place) -> None:
    results = place.run(place.trial.add("a.wav"), "stems", "words", "both")
    assert {r.state for r in results.values()} == {State.DONE}, results
    names = sorted(name.rpartition("/")[2].partition(".")[2] for name in results["stems"].artifacts)
    assert names == ["rest.npz", "vocals.json"]
    (name,) = results["both"].artifacts
    assert place.store.read(name) == b'{"name":"a.wav","sum":3}'
    lineage = Lineage.from_metadata(place.store.stat(name).metadata)
    assert lineage is not None
    references = {r: n for r, n, _ in build_references("stems", results["stems"].artifacts)}
    assert set(references) == {"stems.vocals", "stems.rest"}
    assert lineage.parents == references


def test_outputs_are_read_back_by_another_task_and_checked(place: Place) -> None:
    media = place.trial.add("b.wav")
    first = place.run(media, "stems")
    task = Task(task_id=1, media=media, run=("stems", "both")).continue_after(first.values())
    inputs = {"inputs": task.inputs, "checksums": task.checksums}
    assert set(task.inputs) == set(task.checksums) == {"stems.vocals", "stems.rest"}
    assert place.run(media, "both", **inputs)["both"].state is State.DONE
    spoilt = next(name for name in first["stems"].artifacts if name.endswith("rest.npz"))
    place.store.create(spoilt, b"?", content_type="x/y", metadata={}, replace=True)
    [found] = place.run(media, "both", **inputs).values()
    assert found.state is State.QUEUED
    assert found.damaged == "stems"
    assert found.error is not None
    assert found.error.kind == Kind.DAMAGED_INPUT
    assert place.run(media, "words", **inputs)["words"].state is State.DONE


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        ("one", ["dict with the keys 'vocals'", "with the keys 'vocals', 'rest'"]),
        ("three", ["the keys 'vocals', 'rest', 'more'"]),
        ("list", ["returned list", "return a dict"]),
        ("wrong", ["arrays"]),
    ],
)
def test_a_job_writes_all_its_outputs_or_none(
    place: Place, name: str, fragments: list[str]
) -> None:
    results = place.run(place.trial.add(f"{name}.wav"), "stems", "words")
    error = results["stems"].error
    assert results["stems"].state is State.FAILED
    assert error is not None
    assert error.kind == Kind.BAD_OUTPUT
    assert all(fragment in error.message for fragment in fragments), error.message
    assert results["words"].state is State.BLOCKED
    assert not results["stems"].artifacts
    assert not [o for o in place.store.list() if f"/{name}.wav/" in o.name]


def test_a_job_may_decide_that_it_is_not_for_a_file(place: Place) -> None:
    results = place.run(place.trial.add("silent.wav"), "stems", "words", "late")
    assert results["stems"].state is State.DONE
    assert results["words"].state is results["late"].state is State.NOT_APPLICABLE
    error, below = results["words"].error, results["late"].error
    assert error is not None
    assert below is not None
    assert (error.kind, error.message) == (Reason.DECLINED, "there is no speech in it")
    assert error.traceback is None
    assert (below.kind, below.type) == ("not_applicable", "words")
    assert results["words"].seconds is not None


def test_in_a_batch_a_job_decides_about_each_file(place: Place) -> None:
    files = [place.trial.add(f"{name}.wav") for name in ("x", "silent y", "z")]
    tasks = [Task(task_id=n, media=m, run=("stems", "many")) for n, m in enumerate(files)]
    states = [found["many"].state for found in run_tasks(place.pool, tasks)]
    assert states == [State.DONE, State.NOT_APPLICABLE, State.DONE]


def sound(place: Place, name: str) -> MediaFile:
    path = os.path.join(place.trial.catalogue, f"made-{name}")
    write(tone(440, 0.2, sr=8000), path)
    with open(path, "rb") as file:
        return place.trial.add(name, file.read())


def test_files_that_are_not_accepted_do_not_split_a_batch(place: Place) -> None:
    files = [
        place.trial.add(f"cover{n}.png", PNG) if n % 2 else sound(place, f"song{n}.wav")
        for n in range(12)
    ]
    tasks = [Task(task_id=n, media=media, run=("sounds",)) for n, media in enumerate(files)]
    with place.trial.pool(place.graph, processes=1) as pool:
        # Once the job is loaded, the pool knows that it takes batches.
        [alone] = run_tasks(pool, [evolve(tasks[1], task_id=99)])
        results = [found["sounds"] for found in run_tasks(pool, tasks)]
    covers = [alone["sounds"], *results[1::2]]
    assert {result.state for result in covers} == {State.NOT_APPLICABLE}
    # Of any files in a row, every other one is a cover.
    sizes = [json.loads(place.trial.read(result))["files"] for result in results[::2]]
    assert max(sizes) > 1


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000000000500010d0a2db40000000049454e44ae426082"
)


def test_a_file_of_another_type_is_not_applicable_whatever_its_name(place: Place) -> None:
    results = place.run(place.trial.add("cover.wav", PNG), "loud", "louder")
    assert {r.state for r in results.values()} == {State.NOT_APPLICABLE}
    error = results["loud"].error
    assert error is not None
    assert (error.kind, error.type) == (Reason.NOT_ACCEPTED, "image/png")
    assert error.message == "the file is an image (image/png), and the job accepts audio/*"


def test_sound_is_accepted_whatever_its_name(place: Place) -> None:
    results = place.run(sound(place, "song.flac"), "loud")
    assert results["loud"].state is State.DONE, results
    renamed = place.trial.add("song.txt", Path(place.trial.catalogue, "song.flac").read_bytes())
    assert place.run(renamed, "loud")["loud"].state is State.DONE


def test_bytes_that_prove_nothing_are_what_they_are_declared_to_be(place: Place) -> None:
    damaged = place.run(place.trial.add("noise.flac", b"\1\2\3" * 999), "loud")["loud"]
    assert damaged.state is State.FAILED
    assert damaged.error is not None
    assert damaged.error.kind == Kind.CORRUPT_MEDIA
    # Perhaps it would have sound if it were whole.
    film = place.run(place.trial.add("noise.mp4", b"\1\2\3" * 999), "loud")["loud"]
    assert film.state is State.FAILED
    notes = evolve(place.trial.add("notes.txt", b"hello\n" * 99), content_type=None)
    text = place.run(notes, "loud")["loud"]
    assert text.state is State.NOT_APPLICABLE
    assert text.error is not None
    assert text.error.type == "text/plain"
    for declared in (None, "audio/mpeg", "image/png"):
        media = evolve(place.trial.add("nameless", b"\1\2\3" * 999), content_type=declared)
        expected = State.NOT_APPLICABLE if declared == "image/png" else State.FAILED
        assert place.run(media, "loud")["loud"].state is expected


def test_a_job_that_does_not_read_the_file_may_accept_only_some(place: Place) -> None:
    media = place.trial.add("cover2.png", PNG)
    assert place.run(media, "stems", "words", "late")["late"].state is State.DONE
    wave = place.run(sound(place, "other.wav"), "stems", "words", "late")
    assert wave["words"].state is State.DONE
    assert wave["late"].state is State.NOT_APPLICABLE
