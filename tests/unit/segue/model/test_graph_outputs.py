"""Jobs with several outputs: which one a job below needs, and what that means for fingerprints."""

from __future__ import annotations

import msgspec
import pytest

from segue.model.artifact import build_references, list_outputs, split_output
from segue.model.graph import UNRESOLVED, GraphError, parse_graph
from segue.model.manifest import Lock, Manifest, PublishedJob, decode_manifest, encode_manifest
from segue.model.settings import Settings
from segue.registry.locking import build_lock
from segue.registry.publication import build_manifest

TEXT = """
jobs:
  separation:
    run: "m:f"
    needs: {media: source}
    writes: {vocals: audio/flac, accompaniment: audio/wav}
  words: {run: "m:f", needs: {audio: separation.vocals}, writes: application/json}
  mix: {run: "m:f", needs: {a: separation.vocals, b: separation.accompaniment}, writes: audio/flac}
  whole: {run: "m:f", needs: {audio: mix}, writes: audio/flac}
"""
FOREIGN = """
namespace: moods
jobs:
  mood: {run: "m:f", needs: {audio: platform/separation.vocals}, writes: application/json}
"""


def lock_to(writes: str | dict[str, str]) -> Lock:
    job = PublishedJob(fingerprint="0123456789ab", writes=writes, pipeline="separation")
    platform = Manifest(
        namespace="platform",
        ledger="sqlite:////p/ledger.db",
        queue="sqlite:////p/queue.db",
        artifacts="file:///p/artifacts",
        jobs={"separation": job},
    )
    return Lock(namespaces={"platform": platform})


def test_a_job_has_one_parent_however_many_of_its_outputs_it_needs():
    graph = parse_graph(TEXT)
    assert graph.jobs["mix"].parents == ("separation",)
    assert graph.children["separation"] == ("words", "mix")
    assert graph.add_ancestors(["mix"]) == ("separation", "mix")
    assert graph.find_triggers("mix") == ("separation",)
    assert graph.find_content_type("separation.accompaniment") == "audio/wav"
    assert graph.find_content_type("mix") == "audio/flac"
    assert graph.find_outputs("mix") == {"": "audio/flac"}


def test_each_output_has_a_fingerprint_of_its_own_below():
    other = TEXT.replace("{audio: separation.vocals}", "{audio: separation.accompaniment}")
    before, after = parse_graph(TEXT).fingerprints, parse_graph(other).fingerprints
    assert {job for job in before if before[job] != after[job]} == {"words"}


def test_another_output_makes_the_results_stale_and_those_below():
    more = TEXT.replace("audio/wav}", "audio/wav, drums: audio/flac}")
    before, after = parse_graph(TEXT).fingerprints, parse_graph(more).fingerprints
    assert [job for job in before if before[job] == after[job]] == []


def test_what_a_job_accepts_is_not_part_of_its_fingerprint():
    accepting = TEXT.replace("writes: {vocals", "accepts: [audio/*]\n    writes: {vocals")
    graph = parse_graph(accepting)
    assert graph.jobs["separation"].accepts == ("audio/*",)
    assert graph.fingerprints == parse_graph(TEXT).fingerprints


def test_a_job_that_accepts_some_files_reads_the_file_but_is_not_started_by_it():
    text = TEXT.replace("{audio: mix}", "{audio: mix}, accepts: [audio/*]")
    graph = parse_graph(text)
    assert graph.jobs["whole"].reads_source
    assert not graph.jobs["whole"].needs_source
    assert graph.find_triggers("whole") == ("mix",)
    assert graph.children["source"] == ("separation",)


@pytest.mark.parametrize(
    ("needed", "fragments"),
    [
        ("separation", ["has several outputs", "separation.vocals, separation.accompaniment"]),
        ("separation.vocal", ["not an output of 'separation'", "did you mean", ".vocals"]),
        ("mix.left", ["'mix' has only one", "write 'mix'"]),
        ("mix.", ["'mix' has only one", "write 'mix'"]),
        ("separation.", ["has several outputs"]),
        ("mixed.left", ["is not a job of this graph", "did you mean 'mix'"]),
        ("separation.vocals.left", ["not an output"]),
        ("source.left", ["is not a job"]),
        ("whole.left", ["needs itself"]),
    ],
)
def test_a_need_of_an_output_that_is_not_there_is_a_fault(needed, fragments):
    with pytest.raises(GraphError) as caught:
        parse_graph(TEXT.replace("{audio: mix}", f"{{audio: {needed}}}"))
    [fault] = caught.value.faults
    assert fault.place == "jobs.whole.needs.audio"
    assert all(fragment in fault.message for fragment in fragments), fault.message


def test_a_job_without_outputs_is_one_fault_and_not_another_where_it_is_needed():
    text = TEXT.replace("{vocals: audio/flac, accompaniment: audio/wav}", "{}")
    with pytest.raises(GraphError) as caught:
        parse_graph(text)
    assert [fault.place for fault in caught.value.faults] == ["jobs.separation.writes"]


def test_an_output_of_another_namespace_is_needed_by_its_name():
    graph = parse_graph(FOREIGN, lock=lock_to({"vocals": "audio/flac", "rest": "audio/flac"}))
    assert graph.references == ("platform/separation",)
    assert graph.pins == {"platform/separation": "0123456789ab"}
    assert graph.find_content_type("platform/separation.vocals") == "audio/flac"
    assert parse_graph(FOREIGN, lock=UNRESOLVED).locked_references == ("platform/separation",)


@pytest.mark.parametrize(
    ("lock", "message"),
    [
        (lock_to({"voice": "audio/flac"}), "is not an output of 'platform/separation'"),
        (lock_to("audio/flac"), "has only one"),
        (Lock(namespaces={}), "is not in segue.lock"),
    ],
)
def test_an_output_that_another_namespace_does_not_publish_is_a_fault(lock, message):
    with pytest.raises(GraphError, match=message):
        parse_graph(FOREIGN, lock=lock)


def test_outputs_are_published_and_locked():
    graph = parse_graph(TEXT.replace('run: "m:f"\n', 'run: "m:f"\n    publish: true\n'))
    manifest = build_manifest(graph, Settings.load(environ={}))
    read = decode_manifest(encode_manifest(manifest), "here")
    assert read == manifest
    outputs = {"vocals": "audio/flac", "accompaniment": "audio/wav"}
    assert read.jobs["separation"].writes == outputs
    lock = build_lock(
        ["platform/separation"], {"platform": msgspec.structs.replace(read, namespace="platform")}
    )
    assert parse_graph(FOREIGN, lock=lock).find_outputs("platform/separation") == outputs


def test_references_are_built_from_the_names_of_artifacts():
    names = {"s/f/a.wav/5.vocals.flac": "1", "s/f/a.wav/5.rest.flac": "2"}
    assert list(build_references("s", names)) == [
        ("s.vocals", "s/f/a.wav/5.vocals.flac", "1"),
        ("s.rest", "s/f/a.wav/5.rest.flac", "2"),
    ]
    one = {"file:///a/b.c/s/f/a.b.wav/5.json": ""}
    assert list(build_references("p/s", one)) == [("p/s", "file:///a/b.c/s/f/a.b.wav/5.json", "")]
    assert split_output("p/s.vocals") == ("p/s", "vocals")
    assert split_output("p/s") == ("p/s", "")
    assert list_outputs("audio/flac") == {"": "audio/flac"}
