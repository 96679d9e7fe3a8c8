"""Prefixes are split into ranges of names that can be listed in parallel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.model.object_store import NameRange, Object, list_objects, split_prefix

endings = st.text("ab/\ue000\U0001f3b5\U0010ffff", min_size=1, max_size=3)


class Listing:
    """A store that can only be listed."""

    def __init__(self, names) -> None:
        self.names = sorted(names)

    def list(self, prefix: str = "", *, after: str = "", leave_out=None):
        for name in self.names:
            if name.startswith(prefix) and name > after:
                yield Object(name=name, generation=1, size_bytes=1)


def has(part: NameRange, name: str) -> bool:
    return (
        name.startswith(part.prefix)
        and (not part.after or name > part.after)
        and (part.until is None or name <= part.until)
    )


@given(stored=st.sets(endings), other=endings, enough=st.integers(1, 9))
def test_each_name_is_in_one_range_even_if_the_store_does_not_have_it(stored, other, enough):
    parts = split_prefix(Listing("m/" + ending for ending in stored), "m/", enough=enough)
    assert sum(has(part, "m/" + other) for part in parts) == 1


@pytest.mark.parametrize("enough", [1, 2, 4, 100])
def test_the_ranges_of_a_store_list_each_object_once_and_in_order(enough):
    names = [
        "m/",
        "m/a",
        "m/a/b.wav",
        "m/ab",
        "m/abc.wav",
        "m/abd",
        "m/b",
        "m/é.wav",
        "m/\U0001f3b5",
    ]
    store = Listing([*names, "other"])
    parts = split_prefix(store, "m/", enough=enough)
    assert len(parts) >= min(enough, 4)
    assert [found.name for part in parts for found in part.list_objects(store)] == names


def test_a_prefix_without_objects_is_one_range():
    assert split_prefix(Listing([]), "x/") == [NameRange(prefix="x/")]


@pytest.mark.parametrize("enough", [1, 2, 100])
def test_a_prefix_without_a_slash_is_an_object_and_what_is_below_it(enough):
    inside = ["music", "music/a.wav", "music/b.wav"]
    store = Listing([*inside, "music-private/a.wav", "music.wav", "musical/a.wav", "mus"])
    assert [found.name for found in list_objects(store, "music")] == inside
    assert [found.name for found in list_objects(store, "music", after="music/a.wav")] == inside[2:]
    parts = split_prefix(store, "music", enough=enough)
    assert [found.name for part in parts for found in part.list_objects(store)] == inside
    everything = [found.name for found in list_objects(store, "")]
    assert everything == store.names
