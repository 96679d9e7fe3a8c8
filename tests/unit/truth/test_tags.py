"""Genres of styles, and the rank of a tag that fits."""

from __future__ import annotations

import pytest
from truth.tags import GENRES, find_genre, rank_tags

from segue.models.musicnn import TAGS


@pytest.mark.parametrize(
    ("style", "genre"),
    [
        ("stdlib_fastjazz", "jazz"),
        ("casio_TripHop", "chillout"),
        ("zoom_hiphop1", "Hip-Hop"),
        ("yamaha_8beat", None),
    ],
)
def test_a_style_has_the_genre_of_its_name(style, genre):
    tags = find_genre(style)
    assert tags is None if genre is None else genre in (tags or ())


def test_each_genre_is_a_tag_of_the_model():
    assert {tag for _, tags in GENRES for tag in tags} <= set(TAGS)


def test_the_rank_is_that_of_the_best_tag_that_fits():
    found = [{"name": name, "value": 0.5} for name in ("pop", "jazz", "rock")]
    assert rank_tags(found, ["rock", "jazz"]) == 2
