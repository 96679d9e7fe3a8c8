"""Every job that ships with Segue on odd sounds, pictures and films: a value, a reason, or an error
that says what is wrong with the file; and the same bytes each time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from segue.adapters.connect import connect_store
from segue.codec import decode
from segue.errors import Kind
from segue.model.graph import Graph, read_graph
from segue.model.media_file import MediaFile
from segue.model.object_store import ObjectStore
from segue.model.record import State
from segue.model.shipped_graphs import list_shipped_graphs
from segue.worker.failure import describe_failure
from segue.worker.line_run import Claims, LineRun, LoadedJob, Stores, load_job
from segue.worker.protocol import Task
from segue_support import odd_media
from segue_support.model_commands import run_segue
from segue_support.tiny_whisper import use_tiny_whisper

JSON = "application/json"
SHIPPED = {name: read_graph(path, {}) for name, path in list_shipped_graphs().items()}
# A job that is in several graphs is the same in each.
JOBS = {job: name for name, graph in SHIPPED.items() for job in graph.jobs}
# The jobs of a graph run together, so they are tested in one process.
IN_GROUPS = [pytest.param(j, marks=pytest.mark.xdist_group(f"odd {g}")) for j, g in JOBS.items()]
WITH_WHISPER = {"language", "transcript"}
GROUPS: dict[str, Callable[[Path], set[str]]] = {
    "sounds": odd_media.write_sounds,
    "damaged sounds": odd_media.write_damaged_sounds,
    "pictures": odd_media.write_pictures,
    "damaged pictures": odd_media.write_damaged_pictures,
    "films": odd_media.write_films,
    "films with sound": odd_media.write_films_with_sound,
}
REPEATED = {"8-khz.wav", "12-channels.wav", "cmyk.jpg", "uneven.mkv", "broadcast.ts"}
# The descriptions of their fields say when these are null.
WITHOUT_REASON = {"energy", "loudness", "probe"}


@dataclass(frozen=True)
class Outcome:
    """What became of a job on a file."""

    state: State
    error: str = ""
    checksums: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()  # of the outputs that are JSON


@dataclass
class Place:
    """The odd files by group, and what became of the jobs of each graph that has run on them."""

    folder: Path
    groups: dict[str, set[str]]
    outcomes: dict[str, dict[str, dict[str, Outcome]]] = field(default_factory=dict)

    def find(self, job: str, group: str) -> dict[str, Outcome]:
        """Return what becomes of a job on each file of a group, by the file's name."""
        name = JOBS[job]
        if name not in self.outcomes:
            self.outcomes[name] = run_graph(self.load(name), self.folder)
        return {file: self.outcomes[name][file][job] for file in self.groups[group]}

    def load(self, name: str) -> Graph:
        """Return a shipped graph whose models are on this machine."""
        path = self.folder / name / "jobs.yaml"
        run(self.folder, "init", "--graph", name, name)
        if name in WITH_WHISPER:
            use_tiny_whisper(path)
        if SHIPPED[name].find_models(SHIPPED[name].jobs):
            run(path.parent, "models", "get")
        return read_graph(str(path), {})


def run(folder: Path, *arguments: str) -> None:
    run_segue(folder, *arguments, models=os.environ["SEGUE_MODELS"])


def run_graph(graph: Graph, folder: Path) -> dict[str, dict[str, Outcome]]:
    """Run all jobs on all files, as a worker does; return the outcomes by file and job."""
    jobs = [load_job(graph, name) for name in graph.jobs]
    store = connect_store(str(folder / "media"))
    found = {}
    for one in sorted(store.list(""), key=lambda each: each.name):
        media = store.identify(one.name).to_media_file(store.uri(one.name))
        found[one.name] = dict(run_line(jobs, media, folder))
        if one.name in REPEATED:
            again = dict(run_line(jobs, media, folder))
            assert again == found[one.name], f"{one.name} has another result the second time"
    store.close()
    return found


def run_line(
    jobs: list[LoadedJob], media: MediaFile, folder: Path
) -> Iterator[tuple[str, Outcome]]:
    """Yield what becomes of each job on a file."""
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    artifacts = connect_store(str(folder / "artifacts"))
    names = tuple(job.spec.name for job in jobs)
    task = Task(task_id=0, media=media, run=names)
    line = LineRun(task, Stores(connect_store, str(folder / "artifacts")), str(temporary), Claims())
    states: dict[str, State] = {}
    for job in jobs:
        above = {states[parent] for parent in job.spec.parents} - {State.DONE}
        if above:
            is_blocked = above & {State.FAILED, State.BLOCKED}
            outcome = Outcome(State.BLOCKED if is_blocked else State.NOT_APPLICABLE)
        else:
            outcome = run_job(line, job, artifacts)
        states[job.spec.name] = outcome.state
        yield job.spec.name, outcome
    line.finish()


def run_job(line: LineRun, job: LoadedJob, artifacts: ObjectStore) -> Outcome:
    try:
        written = line.write(job, job.call(line.load_inputs(job)))
    except Exception as error:  # noqa: BLE001 - as the worker does
        info = describe_failure(error, job.spec.resources.memory_gib)
        return Outcome(info.state, f"{info.failure.kind}: {info.failure.message}")
    types = [content_type for _, content_type, _ in job.outputs]
    values = [
        decode(JSON, artifacts.read(name))
        for name, content_type in zip(written, types, strict=True)
        if content_type == JSON
    ]
    return Outcome(State.DONE, "", tuple(written.values()), tuple(values))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("odd")
    media = folder / "media"
    media.mkdir()
    groups = {group: write_files(media) for group, write_files in GROUPS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_MODELS", str(folder / "models"))
        yield Place(folder, groups)


def find_expected(job: str, group: str) -> State:
    """Return what is to become of a job on a file of a group."""
    spec = SHIPPED[JOBS[job]].jobs[job]
    if job == "probe":
        return State.DONE
    if JOBS[job] != "film":
        is_taken = "sound" in group
    elif "image/*" in spec.accepts:
        is_taken = "sounds" not in group
    else:
        is_taken = "films" in group
    if not is_taken:
        return State.NOT_APPLICABLE
    if "damaged" in group:
        return State.FAILED if spec.reads_source else State.BLOCKED
    return State.DONE


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("job", IN_GROUPS)
def test_a_job_answers_an_odd_file(place, job, group):
    expected = find_expected(job, group)
    for file, outcome in place.find(job, group).items():
        assert outcome.state == expected, f"{file}: {outcome}"
        if expected is State.FAILED:
            assert outcome.error.startswith(f"{Kind.CORRUPT_MEDIA}: "), f"{file}: {outcome}"
        for value in outcome.values:
            lacks = [name for name in value if value[name] is None and name != "reason"]
            is_explained = value.get("reason") or job in WITHOUT_REASON
            assert not lacks or is_explained, f"{file} has no {', '.join(lacks)}: {value}"
