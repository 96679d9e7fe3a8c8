"""Media and artifacts are served whole or in part, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from segue.adapters.folder import FolderStore
from segue_console.media import PART_BYTES, guess_content_type
from segue_support.results import OLD


@pytest.fixture
def song(writer) -> str:
    path = writer.folder / "music" / "song.wav"
    path.write_bytes(bytes(range(256)) * 16)
    writer.write("song.wav", beats={"tempo_bpm": 120.0}, picture=np.zeros((4, 6), np.uint8))
    return writer.uri("song.wav")


@pytest.mark.parametrize(
    ("asked", "status", "span", "expected"),
    [
        (None, 200, None, bytes(range(256)) * 16),
        ("bytes=0-3", 206, "bytes 0-3/4096", b"\0\1\2\3"),
        ("bytes=4094-", 206, "bytes 4094-4095/4096", b"\xfe\xff"),
        ("bytes=-2", 206, "bytes 4094-4095/4096", b"\xfe\xff"),
        ("bytes=4090-9999", 206, "bytes 4090-4095/4096", bytes(range(250, 256))),
        ("bytes=4096-", 416, "bytes */4096", b""),
        ("bytes=5-2", 416, "bytes */4096", b""),
        ("bytes=0-1,4-5", 200, None, bytes(range(256)) * 16),
        ("lines=0-1", 200, None, bytes(range(256)) * 16),
        ("bytes=-", 200, None, bytes(range(256)) * 16),
        ("bytes=-0", 416, "bytes */4096", b""),
        (f"bytes={10**17}-", 416, "bytes */4096", b""),
        (f"bytes=0-{10**17}", 206, "bytes 0-4095/4096", bytes(range(256)) * 16),
        (f"bytes={'9' * 5000}-", 200, None, bytes(range(256)) * 16),
        (f"bytes=-{'9' * 5000}", 200, None, bytes(range(256)) * 16),
        ("bytes=+0-1_0", 200, None, bytes(range(256)) * 16),
    ],
)
def test_a_part_is_served_as_it_is_asked_for(console, song, asked, status, span, expected):
    headers = {} if asked is None else {"Range": asked}
    found = console.client.get("/default/media", params={"uri": song}, headers=headers)
    assert (found.status_code, found.headers.get("content-range")) == (status, span)
    assert found.content == expected
    if status != 416:
        assert found.headers["content-type"] == "audio/wav"
        assert found.headers["accept-ranges"] == "bytes"
        assert "sandbox" in found.headers["content-security-policy"]


def test_a_part_of_what_was_overwritten_is_not_added_to(console, writer, song):
    def get(tag):
        headers = {"Range": "bytes=0-3", "If-Range": tag}
        return console.client.get("/default/media", params={"uri": song}, headers=headers)

    before = console.get("/default/media", uri=song).headers["etag"]
    assert get(before).status_code == 206
    (writer.folder / "music" / "song.wav").write_bytes(bytes(4096))
    found = get(before)
    assert (found.status_code, found.content) == (200, bytes(4096))
    assert found.headers["etag"] != before
    assert found.headers["cache-control"] == "no-store"


def test_what_is_overwritten_meanwhile_is_not_served(console, writer, song, monkeypatch):
    class Overwritten(FolderStore):
        def stat(self, name):
            found = super().stat(name)
            (writer.folder / "music" / "song.wav").write_bytes(b"other")
            return found

    monkeypatch.setattr("segue_console.media.connect_store", Overwritten)
    headers = {"Range": "bytes=0-3"}
    found = console.client.get("/default/media", params={"uri": song}, headers=headers)
    assert found.status_code == 503


def test_the_headers_alone_read_nothing(console, song):
    found = console.client.head("/default/media", params={"uri": song})
    assert (found.status_code, found.content) == (200, b"")
    assert found.headers["content-length"] == "4096"


def test_a_long_part_is_cut_and_the_player_asks_on(console, writer):
    data = np.random.default_rng(1).bytes(2 * PART_BYTES + 10)
    (writer.folder / "music" / "long.wav").write_bytes(data)
    writer.write("long.wav", beats={})
    got, start = b"", 0
    while start < len(data):
        headers = {"Range": f"bytes={start}-"}
        found = console.client.get(
            "/default/media", params={"uri": writer.uri("long.wav")}, headers=headers
        )
        assert len(found.content) <= PART_BYTES
        got += found.content
        start += len(found.content)
    assert got == data


@pytest.mark.parametrize(
    "uri",
    ["", "file:///etc/passwd", "song.wav", "gs://bucket/song.wav", "file:///", "ftp://host/song"],
)
def test_what_the_ledger_does_not_have_is_not_served(console, song, uri):
    assert console.get("/default/media", uri=uri).status_code == 404


def test_a_file_that_is_gone_is_missing(console, writer, song):
    (writer.folder / "music" / "song.wav").unlink()
    assert console.get("/default/media", uri=song).status_code == 404


def test_a_pipe_is_not_opened(console, writer, song):
    import os

    path = writer.folder / "music" / "song.wav"
    path.unlink()
    os.mkfifo(path)
    assert console.get("/default/media", uri=song).status_code >= 400


def test_an_artifact_is_served_with_its_type(console, writer, song):
    fingerprint = writer.graph.fingerprints["picture"]
    found = console.get("/default/artifact", uri=song, fingerprint=fingerprint, suffix="png")
    assert found.status_code == 200
    assert found.headers["content-type"] == "image/png"
    assert found.content.startswith(b"\x89PNG")


def test_a_result_that_no_browser_shows_is_a_download(console, writer, song):
    fingerprint = writer.graph.fingerprints["beats"]
    found = console.get("/default/artifact", uri=song, fingerprint=fingerprint, suffix="json")
    assert found.headers["content-type"] == "application/octet-stream"
    assert found.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("fingerprint", "suffix"),
    [
        (OLD, "json"),
        ("picture", "json"),
        ("picture", "../../../../jobs.yaml"),
        ("picture", ""),
        ("../../..", "yaml"),
    ],
)
def test_no_other_artifact_is_served(console, writer, song, fingerprint, suffix):
    fingerprint = writer.graph.fingerprints.get(fingerprint, fingerprint)
    found = console.get("/default/artifact", uri=song, fingerprint=fingerprint, suffix=suffix)
    assert found.status_code == 404


@pytest.mark.parametrize(
    ("name", "recorded", "expected"),
    [
        ("a.FLAC", None, "audio/flac"),
        ("a.opus", None, "audio/ogg"),
        ("a.mp4", None, "video/mp4"),
        ("a.html", None, "text/html"),
        ("a", None, "application/octet-stream"),
        ("a.bin", "audio/mpeg", "audio/mpeg"),
        ("a.wav", "text/html", "audio/wav"),
        ("a.wav", "image/svg+xml", "audio/wav"),
        ("a.wav", "audio/x+xml", "audio/wav"),
    ],
)
def test_the_type_is_that_of_the_bucket_or_of_the_name(name, recorded, expected):
    assert guess_content_type(f"file:///{name}", recorded) == expected


def test_a_web_page_in_the_catalogue_is_never_a_web_page(console, writer):
    (writer.folder / "music" / "page.html").write_text("<script>alert(1)</script>")
    writer.write("page.html", beats={})
    found = console.get("/default/media", uri=writer.uri("page.html"))
    assert found.headers["content-type"] == "application/octet-stream"
