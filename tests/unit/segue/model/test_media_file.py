"""Media files: their names, their keys, and which of them count."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import ConfigurationError
from segue.model.media_file import (
    FileStat,
    MediaFile,
    build_name_filter,
    find_bucket_location,
    format_name,
    is_below,
    is_same_stat,
    list_file_uris,
    parse_prefix,
    resolve_prefix,
    split_uri,
    uri_to_file_id,
)


@pytest.mark.parametrize(
    ("uri", "bucket", "name"),
    [
        ("gs://bucket/a.wav", "bucket", "a.wav"),
        ("gs://bucket/a/b c%20d/é.wav", "bucket", "a/b c%20d/é.wav"),
        ("gs://bucket//a.wav", "bucket", "/a.wav"),
        ("gs://bucket/", "bucket", ""),
        ("gs://bucket", "bucket", ""),
        ("gs://bucket/gs://other/a", "bucket", "gs://other/a"),
        ("file:///music/a.wav", "", "music/a.wav"),
        ("file:///", "", ""),
    ],
)
def test_a_uri_is_split_into_bucket_and_name(uri, bucket, name):
    assert split_uri(uri) == (bucket, name)
    media = MediaFile(uri=uri, version="1", order=1)
    assert (media.bucket, media.name) == (bucket, name)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a.wav",
        "/a.wav",
        "gs://",
        "gs:///a.wav",
        "gs:/b/a",
        "file://host/a",
        "file:a",
        "s3://b/a",
    ],
)
def test_a_location_of_another_kind_is_refused_with_the_remedy(uri):
    with pytest.raises(ConfigurationError) as caught:
        split_uri(uri)
    assert repr(uri) in str(caught.value)
    assert "gs://bucket/name or file:///folder/name" in str(caught.value)


def test_names_start_at_the_bucket_or_at_the_root():
    assert find_bucket_location("gs://bucket/a/b") == "gs://bucket"
    assert find_bucket_location("file:///a/b") == "file:///"


@given(st.sampled_from(["gs://bucket/", "file:///"]), st.text(max_size=20))
def test_a_location_and_a_name_make_the_uri_again(start, name):
    bucket, found = split_uri(start + name)
    location = find_bucket_location(start + name)
    assert (location + "/" if bucket else location) + found == start + name


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("gs://bucket/a.wav", "5f1c72978061f71b727974e8c63a40c9"),
        ("gs://bucket/été.flac", "e558510509df48284adaac3c0afbe16f"),
        ("file:///music/a.wav", "dc75d93f0978ee34fdf8808924afd81c"),
    ],
)
def test_a_files_key_never_changes(uri, key):
    assert uri_to_file_id(uri) == key


def test_how_a_file_looks_is_text_that_changes_with_the_file(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    found = FileStat.of(os.stat(path))
    assert FileStat.parse(str(found)) == found
    assert str(FileStat(1, 2, 3, 4, 5)) == "1:2:3:4:5"
    os.utime(path, ns=(0, found.mtime_ns + 1))
    assert FileStat.of(os.stat(path)) != found
    path.write_bytes(b"three")
    assert FileStat.of(os.stat(path)).size_bytes == 5


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("1:2:3:4:1767322800123456789", True),
        ("9:2:3:4:1767322800123456789", True),
        ("1:9:3:4:1767322800123456789", False),
        ("1:2:9:4:1767322800123456789", False),
        ("1:2:3:9:1767322800123456789", False),
        ("1:2:3:4:1767322800123456780", False),
    ],
)
def test_a_stat_is_the_same_on_a_device_with_another_number(other, same):
    assert is_same_stat("1:2:3:4:1767322800123456789", other) is same


def test_a_stat_with_a_coarse_time_is_not_the_same_on_another_device():
    for time_ns in ("1767322800000000000", "1767322800120000000"):
        assert is_same_stat(f"1:2:3:4:{time_ns}", f"1:2:3:4:{time_ns}")
        assert not is_same_stat(f"1:2:3:4:{time_ns}", f"9:2:3:4:{time_ns}")


def accepted(patterns, *names):
    takes = build_name_filter(patterns)
    return [name for name in names if takes(name)]


@pytest.mark.parametrize("patterns", [["*.flac", "*.wav"], ["*.flac", "*.[w]av"]])
def test_case_does_not_matter_in_any_kind_of_pattern(patterns):
    names = ["a.flac", "b/A.FLAC", "c.Wav", "flac", "a.flac.txt", "a.mp3", ".flac"]
    assert accepted(patterns, *names) == ["a.flac", "b/A.FLAC", "c.Wav", ".flac"]


@pytest.mark.parametrize("patterns", [["*Straße.WAV"], ["?Straße.WAV"]])
def test_case_does_not_matter_beyond_ascii(patterns):
    assert accepted(patterns, "1straße.wav", "1STRASSE.wav", "1strase.wav") == [
        "1straße.wav",
        "1STRASSE.wav",
    ]


def test_brackets_and_question_marks_are_patterns():
    names = ["take1.wav", "take2.wav", "take10.wav", "takeA.wav", "mix/take1.wav"]
    assert accepted(["take[0-9].wav"], *names) == ["take1.wav", "take2.wav"]
    assert accepted(["take[!0-9].wav"], *names) == ["takeA.wav"]
    assert accepted(["take??.wav"], *names) == ["take10.wav"]
    assert accepted(["TAKE[A-Z].WAV"], *names) == ["takeA.wav"]
    assert accepted(["*[[]1].wav"], "a[1].wav", "a1.wav") == ["a[1].wav"]


def test_a_star_crosses_folders_and_a_pattern_takes_the_whole_name():
    names = ["masters/a.wav", "masters/x/b.wav", "demos/c.wav", "a.wav"]
    assert accepted(["masters/*"], *names) == names[:2]
    assert accepted(["a.wav"], *names) == ["a.wav"]
    assert accepted(["*"], *names, "") == [*names, ""]


def test_dots_and_other_signs_of_regular_expressions_are_themselves():
    assert accepted(["*.wav"], "awav", "a.wav") == ["a.wav"]
    assert accepted(["(a|b)+.wav"], "a.wav", "(a|b)+.wav") == ["(a|b)+.wav"]


def test_a_line_break_in_a_name_hides_nothing():
    assert accepted(["*.wav"], "a\nb.wav", "a.wav\n") == ["a\nb.wav"]
    assert accepted(["?*.wav"], "a\nb.wav", "a.wav\n") == ["a\nb.wav"]


def test_no_pattern_takes_all():
    assert accepted([], "a", "", "b.txt") == ["a", "", "b.txt"]


@given(st.text(alphabet="aAéßİ.", max_size=6), st.lists(st.text("aAéßİ.", min_size=1, max_size=3)))
def test_a_star_and_an_ending_accept_the_names_with_that_ending(name, endings):
    wanted = any(name.casefold().endswith(ending.casefold()) for ending in endings)
    assert build_name_filter([f"*{ending}" for ending in endings])(name) == (wanted or not endings)


@pytest.fixture
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    (tmp_path / "music").mkdir()
    (tmp_path / "music/song.flac").write_bytes(b"")


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("gs://bucket", "gs://bucket/"),
        ("gs://bucket/masters", "gs://bucket/masters"),
        ("/srv/music", "file:///srv/music"),
        ("/srv/music/", "file:///srv/music/"),
        ("file:///srv/music/a", "file:///srv/music/a"),
        ("~/Music/", "file:///home/someone/Music/"),
        ("/", "file:///"),
    ],
)
def test_a_prefix_becomes_a_uri_prefix(text, uri):
    assert parse_prefix(text) == uri


@pytest.mark.usefixtures("_here")
def test_a_folder_that_exists_stands_for_what_is_in_it(tmp_path):
    assert parse_prefix("music") == f"file://{tmp_path}/music/"
    assert parse_prefix("music/so") == f"file://{tmp_path}/music/so"


@pytest.mark.usefixtures("_here")
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


@pytest.mark.usefixtures("_here")
def test_a_prefix_on_this_machine_names_a_file_or_folder_that_exists(tmp_path):
    assert resolve_prefix("music") == f"file://{tmp_path}/music/"
    assert resolve_prefix("music/song.flac") == f"file://{tmp_path}/music/song.flac"
    assert resolve_prefix("gs://bucket/mus") == "gs://bucket/mus"
    for text in ("mus", "music/so", "nothing/"):
        with pytest.raises(ConfigurationError, match="no file or folder"):
            resolve_prefix(text)
    with pytest.raises(ConfigurationError, match=r"not accessible \(File name too long\)"):
        resolve_prefix("n" * 300)


@pytest.mark.parametrize(
    ("uri", "prefix", "expected"),
    [
        ("gs://b/music/a.wav", "gs://b/music", True),
        ("gs://b/music/a.wav", "gs://b/music/", True),
        ("gs://b/music", "gs://b/music", True),
        ("gs://b/music-private/a.wav", "gs://b/music", False),
        ("gs://b/music.wav", "gs://b/music", False),
        ("gs://b/music", "gs://b/music/", False),
        ("gs://b-2/a.wav", "gs://b/", False),
        ("gs://b/a.wav", "", True),
    ],
)
def test_what_is_below_a_prefix_is_in_its_folder(uri, prefix, expected):
    assert is_below(uri, prefix) is expected


def test_a_name_that_is_not_utf8_is_refused_by_name():
    for text in ("caf\udce9.wav", "file:///caf\udce9.wav", "gs://b/caf\udce9.wav"):
        with pytest.raises(ConfigurationError, match=r"caf\\xe9\.wav' is not UTF-8; rename it"):
            parse_prefix(text)


def test_bytes_that_are_not_utf8_are_shown_as_such():
    assert format_name("caf\udce9 é \ud800.wav") == r"caf\xe9 é \ud800.wav"


def test_a_bucket_without_a_name_is_refused():
    with pytest.raises(ConfigurationError, match="gs://bucket/name"):
        parse_prefix("gs://")
