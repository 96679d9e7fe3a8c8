"""Artifacts' names: safe anywhere, never the same for two files, and readable backwards."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from segue.errors import ConfigurationError
from segue.model.artifact import (
    LINEAGE_KEY,
    ArtifactName,
    Lineage,
    build_artifact_name,
    compute_checksum,
    find_version,
    parse_artifact_name,
    quote_name,
)
from segue.model.object_store import check_name

LONGEST_JOB = "j" * 63
PRINT = "0123456789ab"
characters = st.characters(exclude_categories=["Cs"])
# Names that are near the rules: dots, slashes, percent signs, and parts that are too long.
tricky = st.lists(
    st.sampled_from(["", ".", "..", "%", "%.", "%%", "a", "a/", "/", "\0", "\n", "%00", "%-", "…"])
    | st.integers(1, 300).map(lambda n: "x" * n)
    | st.integers(1, 120).map(lambda n: "é♫" * n),
    max_size=9,
).map("".join)
names = st.text(characters, max_size=40) | tricky | st.lists(tricky, max_size=5).map("/".join)


versions = st.integers(0, 2**63 - 1).map(str) | st.text("0123456789abcdef", min_size=1, max_size=32)
suffixes = st.sampled_from(["json", "flac", "npz", "vocals.flac", "left_channel.parquet"])


@given(names, versions)
def test_an_artifacts_name_fits_every_store_and_never_leaves_it(name, version):
    made = build_artifact_name(LONGEST_JOB, PRINT, name, version, "left_channel.parquet")
    assert check_name(made) == made
    assert all(len(part.encode()) <= 255 for part in made.split("/"))
    assert len(made.encode()) <= 1024
    assert not set(made) & set("\0\r\n")


@given(names, names)
@example("", "%")
@example(".", "%.")
@example("a\0", "a%00")
@example("%00", "%2500")
@example("a" * 300, quote_name("a" * 300))
@example("a/" * 500, quote_name("a/" * 500))
@example("é" * 200, "é" * 201)
@example("a" * 201 + "/b", "a" * 202 + "/b")
@example("b/" * 450 + "c", "b/" * 451 + "c")
def test_different_files_never_share_an_artifacts_name(one, other):
    assume(one != other)
    assert quote_name(one) != quote_name(other)


@pytest.mark.parametrize("long", ["a" * 250, "é" * 150, "a/" * 450, "x" * 250 + "/" + "y" * 700])
def test_a_file_that_is_named_like_a_shortened_name_gets_another(long):
    assert quote_name(long) != long
    assert quote_name(quote_name(long)) != quote_name(long)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C"], exclude_characters="/%"), min_size=1),
        min_size=1,
        max_size=4,
    )
    .filter(lambda parts: not {".", ".."} & set(parts))
    .map("/".join)
)
@example(".hidden/..x/a..b/...")
@example("masters/été/01 Intro (live) [24bit]#1?.flac")
@example("…")
@example("a" * 200)
def test_an_ordinary_name_stays_as_it_is(name):
    assume(all(len(part.encode()) <= 200 for part in name.split("/")))
    assert quote_name(name) == name


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("", "%"),
        ("/a", "%/a"),
        ("a//b", "a/%/b"),
        ("a/", "a/%"),
        ("../../etc/passwd", "%../%../etc/passwd"),
        ("./a", "%./a"),
        ("100%.wav", "100%25.wav"),
        ("a\nb\r\0", "a%0ab%0d%00"),
    ],
)
def test_what_would_mislead_a_store_is_quoted(name, quoted):
    assert quote_name(name) == quoted


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("a" * 200, "a" * 200),
        ("a" * 150 + "é" * 40, "a" * 150 + "é" * 5 + "%-497217579b9eb087"),
        ("album/" * 132 + "01.wav", "album/" * 132 + "01.wav"),
        ("album/" * 150 + "01.wav", "album/" * 49 + "album%-/abc28e76e62ccfe6/01.wav"),
    ],
)
def test_names_that_are_too_long_are_shortened_the_same_way_for_ever(name, quoted):
    assert quote_name(name) == quoted


def test_a_long_name_keeps_its_beginning_and_its_last_part():
    name = "/".join(["album of many songs"] * 60) + "/" + "t" * 300 + ".wav"
    quoted = quote_name(name)
    assert quoted.startswith("album of many songs/album of many songs/")
    assert quoted.split("/")[-1].startswith("ttt")
    assert quoted == quote_name(name)


@given(names, versions, suffixes)
def test_a_name_is_taken_apart_into_what_it_was_made_of(name, version, suffix):
    made = build_artifact_name("beats", PRINT, name, version, suffix)
    parts = parse_artifact_name(made)
    assert parts == ArtifactName(
        job="beats",
        fingerprint=PRINT,
        file=quote_name(name),
        version=version,
        suffix=suffix,
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        "beats",
        f"beats/{PRINT}",
        f"beats/{PRINT}/5.json",
        f"beats/{PRINT}/a.wav/5",
        f"beats/{PRINT}/a.wav/.json",
        f"beats/{PRINT}/a.wav/x.json",
        f"beats/{PRINT}/a.wav/-5.json",
        f"beats/{PRINT}/a.wav/\N{ARABIC-INDIC DIGIT FIVE}.json",
        f"beats/{PRINT}/a.wav/A5.json",
        f"beats/{PRINT}/a.wav/{'5' * 33}.json",
        f"beats/{PRINT}/a.wav/5.",
        f"beats/{PRINT}/a.wav/5..json",
        f"beats/{PRINT}/a.wav/5.Vocals.flac",
        f"beats/{PRINT}/a.wav/5.1st.flac",
        f"beats/{PRINT}/a.wav/5.vocals.left.flac",
        f"/{PRINT}/a.wav/5.json",
        f"Beats/{PRINT}/a.wav/5.json",
        "beats/0123456789AB/a.wav/5.json",
        "masters/2024/a.wav/5.json",
        f"x/beats/{PRINT}/a.wav/5.json",
    ],
)
def test_another_objects_name_is_not_taken_for_an_artifact(name):
    with pytest.raises(ConfigurationError) as caught:
        parse_artifact_name(name)
    assert "job/fingerprint/file/version.suffix" in str(caught.value)


texts = st.text(characters, max_size=20)


@given(
    st.builds(
        Lineage,
        job=texts,
        fingerprint=texts,
        uri=texts,
        version=texts,
        parents=st.dictionaries(texts, texts, max_size=3),
        segue=texts,
    )
)
def test_lineage_travels_as_metadata(lineage):
    metadata = lineage.to_metadata()
    assert list(metadata) == [LINEAGE_KEY]
    assert "\n" not in metadata[LINEAGE_KEY]
    assert Lineage.from_metadata({**metadata, "other": "x"}) == lineage


def test_lineage_is_the_same_text_whatever_the_order_of_the_parents():
    parents = {"a": f"a/{PRINT}/x/1.json", "b": f"b/{PRINT}/x/1.json"}
    made = [
        Lineage(job="c", fingerprint=PRINT, uri="gs://b/x", version="1", parents=dict(p))
        for p in (parents.items(), reversed(parents.items()))
    ]
    assert made[0].to_metadata() == made[1].to_metadata()


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"job": 1}', '{"job": "beats"}'])
def test_an_object_of_somebody_else_has_no_lineage(text):
    assert Lineage.from_metadata({} if text is None else {LINEAGE_KEY: text}) is None


def test_a_checksum_names_its_algorithm():
    assert compute_checksum(b"abc") == "sha256:" + hashlib.sha256(b"abc").hexdigest()


def test_the_version_that_writes_is_known():
    assert find_version()[0].isdigit()
