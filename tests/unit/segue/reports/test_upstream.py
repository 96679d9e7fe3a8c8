"""A file is followed through the namespaces above a graph, as far as they can be read."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger, open_ledger_to_read
from segue.errors import ConfigurationError
from segue.model.graph import Graph, parse_graph
from segue.model.ledger import Change
from segue.model.manifest import Lock, Manifest, PublishedJob
from segue.model.media_file import MediaFile
from segue.model.record import Entry, Record, State
from segue.registry.publication import open_registry, publish
from segue.reports import upstream
from segue.reports.upstream import Upstream, UpstreamJob, read_upstream

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MEDIA = MediaFile(uri="file:///music/a.wav", version="v1")
# Who is locked to what, and which fingerprint each publishes: moods is the graph.
JOBS = {"platform": "downsample", "rhythm": "beats", "labels": "genre"}
PINS = {
    "platform": {"moods/mood": "e" * 12},
    "labels": {"platform/downsample": "0" * 12},
    "rhythm": {"platform/downsample": "a" * 12, "labels/genre": "c" * 12},
}
PRINTS = {"platform": "a" * 12, "rhythm": "b" * 12, "labels": "c" * 12}


@dataclass
class World:
    """A registry and ledgers, and a graph that is locked to two of three namespaces."""

    folder: Path

    def manifest(self, namespace: str) -> Manifest:
        job = PublishedJob(
            fingerprint=PRINTS[namespace], writes="application/json", pipeline="main"
        )
        return Manifest(
            namespace=namespace,
            contact=f"{namespace}@example.org",
            ledger=f"sqlite:///{self.folder}/{namespace}.db",
            queue=f"sqlite:///{self.folder}/queue.db",
            artifacts=f"file://{self.folder}/{namespace}",
            jobs={JOBS[namespace]: job},
            pins=PINS[namespace],
        )

    def publish(self, *namespaces: str) -> None:
        with closing(open_registry(str(self.folder / "registry"))) as registry:
            for namespace in namespaces:
                publish(registry, self.manifest(namespace), break_pins=True)

    def record(self, namespace: str, state: State = State.DONE, *, version: str = "v1") -> None:
        """Record a result of a namespace's job."""
        entry = Entry(job=JOBS[namespace], order=1, state=state, checksums={"json": "sha256:1"})
        record = Record(
            uri=MEDIA.uri,
            version=version,
            order=1,
            arrived_at=NOW,
            results={PRINTS[namespace]: entry},
        )
        with closing(connect_ledger(self.manifest(namespace).ledger, namespace)) as ledger:
            ledger.change([Change(uri=MEDIA.uri, transition=lambda _: (record, None))])

    @property
    def graph(self) -> Graph:
        text = """
namespace: moods
jobs:
  mood:
    {run: "m:f", writes: application/json,
     needs: {audio: platform/downsample, beats: rhythm/beats}}
"""
        locked = {name: self.manifest(name) for name in ("platform", "rhythm")}
        graph = parse_graph(text, environ={}, lock=Lock(namespaces=locked))
        return replace(graph, registry=str(self.folder / "registry"))


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    made.publish(*JOBS)
    for namespace in JOBS:
        made.record(namespace)
    return made


def list_jobs(found: Upstream) -> dict[str, dict[tuple[str, str], tuple[str, tuple[str, ...]]]]:
    """Return state and users, by namespace, and by job and fingerprint."""
    return {
        each.namespace: {(j.job, j.fingerprint[0]): (j.state, j.needed_by) for j in each.jobs}
        for each in found.namespaces
    }


def test_what_the_namespaces_above_are_locked_to_in_turn_is_read(world):
    found = read_upstream(world.graph, MEDIA)
    assert list_jobs(found) == {
        "platform": {
            ("downsample", "a"): ("done", ("moods", "rhythm")),
            ("downsample", "0"): ("missing", ("labels",)),
        },
        "rhythm": {("beats", "b"): ("done", ("moods",))},
        "labels": {("genre", "c"): ("done", ("rhythm",))},
    }
    assert set(found.results) == {"platform/downsample", "rhythm/beats"}
    assert all(each.note == each.problem == "" for each in found.namespaces)
    (genre,) = found.namespaces[-1].jobs
    assert genre.artifacts == (
        f"file://{world.folder}/labels/genre/{'c' * 12}/music/a.wav/v1.json",
    )


def test_each_ledger_is_opened_once(world, monkeypatch):
    opened = []

    def note(url, namespace):
        opened.append(namespace)
        return open_ledger_to_read(url, namespace)

    monkeypatch.setattr(upstream, "open_ledger_to_read", note)
    read_upstream(world.graph, MEDIA)
    assert sorted(opened) == sorted(JOBS)


def test_without_a_registry_only_what_the_graph_itself_needs_is_read(world):
    found = read_upstream(replace(world.graph, registry=None), MEDIA)
    assert list(list_jobs(found)) == ["platform", "rhythm"]
    assert set(found.results) == {"platform/downsample", "rhythm/beats"}


def test_whether_the_namespace_whose_files_are_read_knows_the_file_is_said(world):
    text = """
namespace: moods
jobs: {mood: {run: "m:f", needs: {media: platform/source}, writes: application/json}}
"""
    lock = Lock(namespaces={"platform": world.manifest("platform")})
    graph = parse_graph(text, environ={}, lock=lock)
    (platform,) = read_upstream(graph, MEDIA).namespaces
    assert (platform.is_source, platform.jobs, platform.note) == (True, (), "")
    other = MediaFile(uri="file:///music/b.wav", version="v1")
    (platform,) = read_upstream(graph, other).namespaces
    assert platform.note == "the file is not in its ledger yet"


def test_a_graph_that_needs_nothing_of_others_reads_nothing(world, tmp_path):
    graph = parse_graph('jobs: {a: {run: "m:f", needs: {x: source}, writes: image/png}}')
    assert read_upstream(graph, MEDIA) == Upstream()


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda world: (world.folder / "labels.db").unlink(), "there is no sqlite:///"),
        (lambda world: (world.folder / "labels.db").write_text("no database"), "labels.db"),
        (lambda world: (world.folder / "registry/labels/manifest.json").unlink(), "not in the"),
        (
            lambda world: (world.folder / "registry/labels/manifest.json").write_text("{"),
            "its manifest cannot be read",
        ),
    ],
)
def test_a_namespace_that_cannot_be_read_is_named_and_the_others_are_read(world, break_it, problem):
    break_it(world)
    found = read_upstream(world.graph, MEDIA)
    by_name = {each.namespace: each for each in found.namespaces}
    assert problem in by_name["labels"].problem
    assert by_name["labels"].jobs == (
        UpstreamJob(
            job="genre",
            fingerprint="c" * 12,
            state="unknown",
            artifacts=(),
            needed_by=("rhythm",),
        ),
    )
    assert {each.problem for name, each in by_name.items() if name != "labels"} == {""}
    assert set(found.results) == {"platform/downsample", "rhythm/beats"}


def test_a_ledger_without_permission_is_named(world, monkeypatch):
    def refuse(url, namespace):
        if namespace == "platform":
            raise ConfigurationError("permission denied; ask for roles/datastore.viewer")
        return open_ledger_to_read(url, namespace)

    monkeypatch.setattr(upstream, "open_ledger_to_read", refuse)
    found = read_upstream(world.graph, MEDIA)
    assert "ask for roles/datastore.viewer" in found.namespaces[0].problem
    assert set(found.results) == {"rhythm/beats"}


def test_a_registry_that_cannot_be_read_is_said_to_be_so(world):
    found = read_upstream(replace(world.graph, registry="s3://acme"), MEDIA)
    assert "not a registry that Segue supports" in found.problem
    assert list(list_jobs(found)) == ["platform", "rhythm"]


def test_a_failure_and_another_version_of_the_file_are_told_apart(world):
    world.record("platform", State.FAILED)
    world.record("rhythm", version="v2")
    found = read_upstream(world.graph, MEDIA)
    platform, rhythm, _ = found.namespaces
    assert [job.state for job in platform.jobs] == ["failed", "missing"]
    assert (rhythm.note, rhythm.jobs[0].state) == (
        "its ledger has version v2 of the file",
        "missing",
    )
