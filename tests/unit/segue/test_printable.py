"""What strangers write reaches a terminal as text, and a program as JSON."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from segue.printable import encode_json, escape, escape_lines, make_printable

HOSTILE = "a\x1b]0;x\x07\x9b31m\r\u202e\u2028\udcff\x7f\U000e0001é🎵"


def test_what_a_terminal_would_obey_is_escaped_and_the_rest_is_kept():
    shown = escape(HOSTILE)
    assert shown == r"a\x1b]0;x\x07\x9b31m\r\u202e\u2028\udcff\x7f\U000e0001é🎵"
    assert escape("a\nb") == r"a\nb"
    assert escape_lines(f"x\n\t{HOSTILE}") == f"x\n\t{shown}"


@given(some.text())
def test_any_text_becomes_printable_and_a_printable_one_stays(name):
    assert escape(name).isprintable()
    assert escape(name) == name or not name.isprintable()
    assert json.loads(encode_json(name)) == name


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_printable_utf_8_and_means_the_same(indent):
    value = {HOSTILE: [HOSTILE, 1.5, None]}
    text = encode_json(value, indent=indent)
    assert all(line.isprintable() for line in text.split("\n"))
    assert json.loads(text.encode("utf-8")) == value
    assert "é🎵" in text


def test_a_printable_stream_is_otherwise_the_stream_itself():
    below = io.StringIO()
    stream = make_printable(below)
    print("a\x1b[2J", file=stream)
    stream.writelines(["b\x07\n", "c"])
    assert below.getvalue() == "a\\x1b[2J\nb\\x07\nc"
    assert not stream.isatty()
