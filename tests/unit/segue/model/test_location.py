"""Files and prefixes as users write them."""

from __future__ import annotations

import pytest

from segue.errors import ConfigurationError
from segue.model.location import list_file_uris, parse_prefix


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    (tmp_path / "music").mkdir()
    (tmp_path / "music/song.flac").write_bytes(b"")


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("gs://bucket", "gs://bucket/"),
        ("gs://bucket/masters", "gs://bucket/masters"),
        ("/srv/music", "file:///srv/music"),
        ("/srv/music/", "file:///srv/music/"),
        ("file:///srv/music/a", "file:///srv/music/a"),
        ("~/Music/", "file:///home/someone/Music/"),
    ],
)
def test_a_prefix_becomes_a_uri_prefix(text, uri):
    assert parse_prefix(text) == uri


def test_a_folder_that_exists_stands_for_what_is_in_it(tmp_path):
    assert parse_prefix("music") == f"file://{tmp_path}/music/"
    assert parse_prefix("music/so") == f"file://{tmp_path}/music/so"


@pytest.mark.parametrize(
    ("text", "catalogue", "uris"),
    [
        ("gs://b/n.flac", "gs://c", ["gs://b/n.flac"]),
        ("/srv/n.flac", "gs://c", ["file:///srv/n.flac"]),
        ("n.flac", None, ["file://{here}/n.flac"]),
        ("a/n.flac", "gs://c/masters", ["gs://c/masters/a/n.flac", "file://{here}/a/n.flac"]),
        ("./n.flac", "gs://c/", ["gs://c/n.flac", "file://{here}/n.flac"]),
        (
            "music/song.flac",
            "gs://c",
            ["file://{here}/music/song.flac", "gs://c/music/song.flac"],
        ),
        ("music/song.flac", ".", ["file://{here}/music/song.flac"]),
        ("song.flac", "music", ["file://{here}/music/song.flac", "file://{here}/song.flac"]),
    ],
)
def test_a_file_may_be_a_path_a_uri_or_a_name_below_the_catalogue(tmp_path, text, catalogue, uris):
    assert list_file_uris(text, catalogue) == [u.format(here=tmp_path) for u in uris]


def test_a_bucket_without_a_name_is_refused():
    with pytest.raises(ConfigurationError, match="gs://bucket/name"):
        parse_prefix("gs://")
