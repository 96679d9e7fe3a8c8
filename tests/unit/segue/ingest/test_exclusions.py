"""The files that a graph passes over, counted by suffix."""

from __future__ import annotations

import pytest

from segue.ingest.exclusions import (
    OTHER,
    describe_exclusions,
    find_suffix,
    suggest_patterns,
)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("music/song.opus", ".opus"),
        ("music/SONG.OPUS", ".opus"),
        ("a\nb.Mp3", ".mp3"),
        ("v1.0/readme", OTHER),
        (".hidden", OTHER),
        ("music/.opus", OTHER),
        ("take.2024", OTHER),
        ("take.0a1b2c3d", OTHER),
        ("song.", OTHER),
        ("", OTHER),
    ],
)
def test_a_name_is_counted_by_its_suffix_if_it_has_one(name, suffix):
    assert find_suffix(name) == suffix


def test_only_patterns_of_what_may_have_sound_are_suggested():
    counts = {".txt": 9, ".opus": 2, OTHER: 1, ".jpg": 1, ".mp4": 1}
    assert suggest_patterns(counts) == ["*.opus", "*.mp4"]
    text = describe_exclusions(counts)
    assert text.startswith("not included: 14 files whose names match no pattern of the graph")
    assert "(9 .txt, 2 .opus, 1 other, 1 .jpg, 1 .mp4)" in text
    assert text.endswith('add to \'include\' of the graph: "*.opus", "*.mp4"')


def test_nothing_is_suggested_for_what_has_no_sound():
    assert describe_exclusions({".txt": 1}).endswith("(1 .txt)")


def test_rare_suffixes_are_counted_together():
    assert describe_exclusions({f".x{n}": 1 for n in range(11)}).endswith(", 3 more)")
