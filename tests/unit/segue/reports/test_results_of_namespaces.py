"""Results of other namespaces are read beside a graph's own."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import pytest

import segue
from segue.adapters.connect import connect_ledger
from segue.errors import ConfigurationError, MissingInput
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.manifest import Lock, Manifest, PublishedJob
from segue.model.record import Record, State, evolve
from segue.reports.results import ArtifactReader, find_results
from segue_support.results import NOW

MOODS = """
namespace: moods
artifacts: moods
jobs:
  mood:
    run: "m:f"
    writes: application/json
    needs: {beats: platform/beats, peaks: platform/stems.summary}
"""
NEWER = "f" * 12


@pytest.fixture
def platform(writer):
    """The namespace above."""
    return writer


@pytest.fixture
def moods(platform, tmp_path):
    published = {
        job: PublishedJob(
            fingerprint=platform.graph.fingerprints[job],
            writes=platform.graph.jobs[job].writes,
            pipeline=job,
        )
        for job in ("beats", "stems")
    }
    manifest = Manifest(
        namespace="default",
        ledger=platform.url,
        queue="sqlite:///queue.db",
        artifacts=f"file://{tmp_path}/artifacts",
        jobs=published,
    )
    lock = Lock(namespaces={"platform": evolve(manifest, namespace="platform")})
    graph = parse_graph(MOODS, environ={}, lock=lock)
    return replace(graph, imports={"platform": manifest})  # whose ledger is the writer's


def record(name, platform, *, version="a1"):
    """Let moods know a file."""
    with closing(connect_ledger("sqlite:///moods.db", "moods")) as ledger:
        uri = platform.uri(name)
        made = Record(uri=uri, version=version, order=1, arrived_at=NOW)
        ledger.change([Change(uri=uri, transition=lambda _: (made, None))])


def find(graph, job):
    return list(segue.results(job, graph=graph, ledger="sqlite:///moods.db"))


def test_the_results_are_those_of_files_that_the_graph_knows(platform, moods):
    platform.write("a.wav", beats={"tempo_bpm": 1.0}, stems__summary={"peaks": [1.0]})
    platform.write("b.wav", beats={"tempo_bpm": 2.0})
    for name in ("a.wav", "c.wav"):
        record(name, platform)
    (found,) = find(moods, "platform/beats")
    assert (found.uri, found.job, found.output) == (platform.uri("a.wav"), "platform/beats", "")
    assert found.value == {"tempo_bpm": 1.0}
    assert found.fingerprint == platform.graph.fingerprints["beats"]
    (found,) = find(moods, "platform/stems.summary")
    assert found.value == {"peaks": [1.0]}


def test_a_result_of_another_version_of_the_file_is_none(platform, moods):
    platform.write("a.wav", version="b2", order=2, beats={"tempo_bpm": 1.0})
    record("a.wav", platform)
    assert find(moods, "platform/beats") == []


def test_unfinished_and_unaccepted_results_are_none(platform, moods):
    platform.write("a.wav", beats={"tempo_bpm": 1.0})
    platform.write("b.wav", fingerprint="0" * 12, beats={"tempo_bpm": 1.0})
    found = platform.ledger.read([platform.uri("a.wav")])[0].record
    running = {f: evolve(entry, state=State.RUNNING) for f, entry in found.results.items()}
    platform.put(evolve(found, results=running))
    for name in ("a.wav", "b.wav"):
        record(name, platform)
    assert find(moods, "platform/beats") == []


def test_a_newer_result_that_stands_for_the_locked_one_counts(platform, moods):
    platform.write("a.wav", fingerprint=NEWER, beats={"tempo_bpm": 1.0})
    record("a.wav", platform)
    assert find(moods, "platform/beats") == []
    found = platform.ledger.read([platform.uri("a.wav")])[0].record
    own = platform.graph.fingerprints["beats"]
    platform.put(evolve(found, results={NEWER: evolve(found.results[NEWER], equivalents=(own,))}))
    (result,) = find(moods, "platform/beats")
    assert (result.fingerprint, result.value) == (NEWER, {"tempo_bpm": 1.0})


def test_a_missing_artifact_names_whose_it_is(platform, moods, tmp_path):
    platform.write("a.wav", beats={"tempo_bpm": 1.0})
    record("a.wav", platform)
    for path in (tmp_path / "artifacts").rglob("*.json"):
        path.unlink()
    (found,) = find(moods, "platform/beats")
    with pytest.raises(MissingInput, match="with the graph of 'platform': segue backfill --force"):
        _ = found.value


def test_a_ledger_that_is_not_there_is_an_error(platform, moods):
    record("a.wav", platform)
    gone = evolve(moods.imports["platform"], ledger="sqlite:///none/ledger.db")
    graph = replace(moods, imports={"platform": gone})
    with pytest.raises(ConfigurationError, match=r"none/ledger\.db, the ledger of 'platform'"):
        find(graph, "platform/beats")


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("platform/beat", "is not a job of another namespace .*did you mean 'platform/beats'?"),
        ("platform/stems", "several outputs; write one of platform/stems.vocals"),
        ("labels/genre", "use the graph of that namespace"),
    ],
)
def test_a_job_that_the_graph_does_not_need_is_refused(platform, moods, job, message):
    with pytest.raises(ConfigurationError, match=message):
        find(moods, job)


def test_the_ledger_of_the_other_namespace_is_read_in_one_call_for_each_page(
    platform, moods, monkeypatch
):
    calls = []
    for number in range(5):
        platform.write(f"{number}.wav", beats={"tempo_bpm": 1.0})
        record(f"{number}.wav", platform)
    read = type(platform.ledger).read
    monkeypatch.setattr(
        type(platform.ledger),
        "read",
        lambda self, uris: calls.append(len(uris)) or read(self, uris),
    )
    references = ["platform/beats", "platform/stems.summary"]
    with closing(connect_ledger("sqlite:///moods.db", "moods")) as ledger:
        found = find_results(ledger, moods, references, ArtifactReader(moods.artifacts))
        assert [json.loads(file.results[references[0]].read()) for file in found] == [
            {"tempo_bpm": 1.0}
        ] * 5
    assert calls == [5]
