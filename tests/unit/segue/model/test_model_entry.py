"""The sources that models have, and what of a model a fingerprint depends on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segue.model.built_in_models import BUILT_IN
from segue.model.model_entry import CONVERT, REFERENCE, SHA256, ModelEntry, parse_source

REVISION = "0123456789" * 4


@pytest.mark.parametrize(
    ("text", "scheme", "place", "version", "path", "leaf"),
    [
        ("pypi:silero-vad==6.2.3/a/b.onnx", "pypi", "silero-vad", "6.2.3", "a/b.onnx", "b.onnx"),
        ("pypi:musicnn==0.1.0/musicnn/M/", "pypi", "musicnn", "0.1.0", "musicnn/M/", "M"),
        ("npm:@a/human@3.3.6/m/x.bin", "npm", "@a/human", "3.3.6", "m/x.bin", "x.bin"),
        (f"hf:a/b-c@{REVISION}/m.onnx", "hf", "a/b-c", REVISION, "m.onnx", "m.onnx"),
        ("https://a.org/m.onnx?x=1", "https", "https://a.org/m.onnx?x=1", "", "", "m.onnx"),
        ("https://a.org/m.zip#x/m.onnx", "https", "https://a.org/m.zip", "", "x/m.onnx", "m.onnx"),
        ("models/tiny.onnx", "", "", "", "models/tiny.onnx", "tiny.onnx"),
        ("/opt/models/tiny", "", "", "", "/opt/models/tiny", "tiny"),
    ],
)
def test_each_kind_of_source_is_parsed(text, scheme, place, version, path, leaf):
    source = parse_source(text)
    assert (source.scheme, source.place, source.version, source.path) == (
        scheme,
        place,
        version,
        path,
    )
    assert source.leaf == leaf


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "begin it with pypi:"),
        ("ftp://a.org/m", "begin it with pypi:"),
        ("pipy:a==1/m", "begin it with pypi:"),
        ("pypi:silero-vad/m.onnx", "write pypi:NAME==VERSION/PATH"),
        ("pypi:silero-vad>=6/m.onnx", "write pypi:NAME==VERSION/PATH"),
        ("pypi:a==1/../m", "write pypi:NAME==VERSION/PATH"),
        ("pypi:a==1//etc/passwd", "write pypi:NAME==VERSION/PATH"),
        ("npm:human/m", "write npm:NAME@VERSION/PATH"),
        ("npm:human@latest/m", "write npm:NAME@VERSION/PATH"),
        ("hf:a/b@main/m.onnx", "40 hexadecimal digits"),
        ("https://a.org", "write https://HOST/PATH"),
        ("https://a.org/x.zip#../m", "write https://HOST/PATH"),
    ],
)
def test_what_names_no_source_is_refused_with_the_rule(text, rule):
    with pytest.raises(ValueError, match=rule):
        parse_source(text)


def test_a_conversion_defines_a_model_as_its_checksum_does():
    entry = ModelEntry(name="a", version=1, source="a.onnx", sha256="0" * 64)
    converted = replace(entry, convert="a:b")
    changes = [
        converted,
        replace(entry, sha256="1" * 64),
        replace(converted, convert_version=2),
    ]
    assert len({e.key for e in (entry, *changes)}) == 4
    assert replace(entry, source="b.onnx", purpose="x", licence="MIT").key == entry.key


def test_the_models_of_segue_are_listed_in_full():
    assert list(BUILT_IN) == sorted(BUILT_IN)
    for reference, entry in BUILT_IN.items():
        assert REFERENCE.fullmatch(reference)
        assert SHA256.fullmatch(entry.sha256)
        # They allow commercial use.
        assert entry.licence in {
            *("MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause"),
            *("Apache-2.0", "CC-BY-4.0"),
        }
        assert entry.licence_file
        assert entry.purpose
        assert entry.size_bytes
        assert parse_source(entry.source)
        assert not entry.convert or CONVERT.fullmatch(entry.convert)
