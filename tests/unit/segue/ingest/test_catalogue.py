"""Which objects are media of the catalogue."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, datetime

import pytest

from segue.errors import ConfigurationError
from segue.ingest.catalogue import (
    EXCLUDED,
    NOT_INCLUDED,
    MediaFilter,
    build_media_filter,
    find_media,
    look_up,
)
from segue.ingest.observation import Look
from segue.model.graph import parse_graph
from segue.model.record import Record
from segue.model.settings import Settings

GRAPH = """
include: ["*.wav", "*.flac"]
jobs:
  a: {run: "m:f", needs: {media: source}, writes: audio/flac}
"""
ANY_NAME = 'include: ["*"]\n' + GRAPH.partition("\n")[2].partition("\n")[2]


def build(
    catalogue: str | None = "gs://music/masters",
    artifacts: str = "gs://features",
    *,
    anywhere: bool = False,
) -> MediaFilter:
    settings = Settings(catalogue=catalogue, artifacts=artifacts)
    lines = f"artifacts: {artifacts}\n" + (f"catalogue: {catalogue}\n" if catalogue else "")
    return build_media_filter(parse_graph(lines + GRAPH, environ={}), settings, anywhere=anywhere)


@pytest.mark.parametrize(
    "uri",
    ["gs://music/masters/a.wav", "gs://music/masters/b/A.WAV", "gs://music/masters/2/a//../b.flac"],
)
def test_media_below_the_catalogues_prefix_are_accepted(uri):
    assert build().accepts(uri)
    assert build().find_reason_to_ignore(uri) is None


def test_what_is_excluded_is_no_media_even_if_it_is_included():
    graph = parse_graph('exclude: ["*/drafts/*", "masters/*.TMP.wav"]\n' + GRAPH)
    media_filter = build_media_filter(graph, Settings.load())
    names = ("a.wav", "drafts/a.wav", "b/a.tmp.wav", "drafts/a.txt", "a.txt")
    found = [media_filter.find_reason_to_ignore(f"gs://music/masters/{name}") for name in names]
    assert found == [None, EXCLUDED, EXCLUDED, EXCLUDED, NOT_INCLUDED]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("gs://music/masters/", "folder"),
        ("gs://music", "folder"),
        ("gs://music/masters/a.wav/", "folder"),
        ("gs://music/masters/a.txt", "no include pattern"),
        ("gs://music/masters/wav", "no include pattern"),
        ("gs://music/other/a.wav", "not below the catalogue gs://music/masters"),
        ("gs://music-2/masters/a.wav", "not below the catalogue"),
        ("gs://music/masters-private/a.wav", "not below the catalogue"),
        ("gs://music/masters.wav", "not below the catalogue"),
        ("gs://music/masters/features/a/0/a.wav/5.flac", "Segue itself"),
        ("gs://music/masters/features/_runs/1.json", "Segue itself"),
        ("https://music/masters/a.wav", "not a URI"),
        ("masters/a.wav", "not a URI"),
        ("", "not a URI"),
    ],
)
def test_everything_else_is_ignored_for_a_reason(uri, reason):
    media_filter = build(artifacts="gs://music/masters/features")
    assert reason in (media_filter.find_reason_to_ignore(uri) or "")
    assert not media_filter.accepts(uri)


def test_a_catalogue_that_is_a_folder_ends_where_the_folder_does():
    media_filter = build("/home/me/music", "/home/me/music/.segue")
    reason = media_filter.find_reason_to_ignore
    assert media_filter.accepts("file:///home/me/music/a.wav")
    assert "not below" in (reason("file:///home/me/music-2/a.wav") or "")
    assert "Segue itself" in (reason("file:///home/me/music/.segue/a.wav") or "")


@pytest.mark.parametrize("name", ["../secret.wav", "a/../../secret.wav", "./a.wav", "a//b.wav"])
def test_a_path_that_could_lead_out_of_the_catalogue_is_ignored(name):
    reason = build("/home/me/music").find_reason_to_ignore(f"file:///home/me/music/{name}")
    assert "parts" in (reason or "")


@pytest.mark.parametrize(
    "media_filter", [build(None), build(anywhere=True)], ids=["no catalogue", "anywhere"]
)
def test_without_a_catalogue_media_anywhere_are_accepted_but_not_segues_own_files(media_filter):
    assert media_filter.accepts("gs://elsewhere/a.wav")
    assert media_filter.accepts("file:///elsewhere/a.wav")
    reason = media_filter.find_reason_to_ignore("gs://features/a/0/a.wav/5.flac")
    assert "Segue itself" in (reason or "")


@pytest.mark.parametrize(
    "name",
    ["my.db", "my.db-wal", "my.db-shm", "q.db", "q.db-journal", ".segue/x.wav", "out/a/0/x/5.json"],
)
@pytest.mark.parametrize("anywhere", [False, True])
def test_segues_own_files_in_the_catalogue_are_not_media(tmp_path, monkeypatch, name, anywhere):
    monkeypatch.chdir(tmp_path)
    graph = parse_graph(f"catalogue: {tmp_path}\nartifacts: out\n{ANY_NAME}", environ={})
    settings = Settings(ledger=f"sqlite:///{tmp_path}/my.db", queue="sqlite:///q.db")
    media_filter = build_media_filter(graph, settings, anywhere=anywhere)
    reason = media_filter.find_reason_to_ignore(f"file://{tmp_path}/{name}")
    assert reason == "written by Segue itself"
    assert media_filter.accepts(f"file://{tmp_path}/a.wav")


@pytest.mark.parametrize("name", ["my.db.wav", "my.db-2/a.wav", "out.wav", ".segue.wav"])
def test_media_beside_segues_own_files_are_media(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    graph = parse_graph(f"catalogue: {tmp_path}\nartifacts: out\n{ANY_NAME}", environ={})
    settings = Settings(ledger=f"sqlite:///{tmp_path}/my.db", queue="sqlite:///q.db")
    assert build_media_filter(graph, settings).accepts(f"file://{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("file:///music/caf\udce9.wav", True),
        ("file:///music/caf\udce9.txt", False),
        ("file:///music/lost+found/", True),
        ("file:///music/.segue/locked/", False),
        ("file:///music/.segue/", False),
    ],
)
def test_what_is_left_out_concerns_a_catalogue_if_it_could_be_or_hold_media(uri, expected):
    assert build("/music", "/music/.segue").concerns(uri) is expected


def test_a_pipe_is_no_file_and_an_unreachable_file_is_not_gone(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "radio.wav")
    found = look_up(f"file://{tmp_path}/radio.wav")
    assert found.is_gone
    assert "a pipe, a socket or a device" in found.other
    with pytest.raises(ConfigurationError, match="a pipe, a socket or a device"):
        find_media(str(tmp_path / "radio.wav"), None)
    assert look_up(f"file://{tmp_path}/none.wav") == Look(uri=f"file://{tmp_path}/none.wav")

    def refuse(path, *_arguments, **_options):
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        found = look_up(f"file://{tmp_path}/locked/a.wav")
        with pytest.raises(ConfigurationError, match="Permission denied"):
            find_media(f"{tmp_path}/locked/a.wav", None)
    assert not found.is_gone
    assert "Permission denied" in str(found.error)


def test_a_file_that_is_named_is_identified_by_its_content(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"sound")
    media = find_media(str(tmp_path / "a.wav"), None)
    assert len(media.version) == 24
    known = Record(
        uri=media.uri, version="known", order=5, stat=media.stat, arrived_at=datetime.now(UTC)
    )
    assert look_up(media.uri).media == media
    assert look_up(media.uri, known).media.version == "known"  # it was not read


def test_a_name_that_no_file_can_have_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="too long"):
        look_up(f"file://{tmp_path}/{'x' * 300}.wav")


def test_a_filter_pickles_for_the_workers_of_a_pipeline():
    assert pickle.loads(pickle.dumps(build())) == build()
