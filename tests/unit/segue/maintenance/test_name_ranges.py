"""Name ranges contain each name once, whatever the listing contained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.connect import connect_store
from segue.maintenance.name_ranges import NameRange, shards_to_ranges
from segue.model.shards import Shard, split

PREFIX = "m/"
endings = st.text("ab/\ue000\U0001f3b5", max_size=3)
shard_lists = st.lists(st.tuples(endings, st.booleans()), unique=True).map(
    lambda found: [Shard(prefix=PREFIX + e, exact=x) for e, x in sorted(found)]
)


def holds(part: NameRange, name: str) -> bool:
    return (
        name.startswith(part.prefix)
        and (not part.after or name > part.after)
        and (part.until is None or name <= part.until)
    )


@given(shards=shard_lists, ending=endings)
def test_each_name_lies_in_one_range_even_if_no_shard_holds_it(shards, ending):
    parts = shards_to_ranges(PREFIX, shards)
    assert sum(holds(part, PREFIX + ending) for part in parts) == 1


def test_nothing_listed_leaves_one_range_for_what_the_ledger_has():
    assert shards_to_ranges("masters/", []) == [NameRange(prefix="masters/")]


@pytest.mark.parametrize("enough", [1, 2, 4, 100])
def test_the_ranges_of_a_store_list_each_object_once_and_in_order(tmp_path, enough):
    names = ["m/a", "m/a/b.wav", "m/ab", "m/abc.wav", "m/b", "m/é.wav", "m/\U0001f3b5"]
    store = connect_store(str(tmp_path))
    for name in [*names[1:], "other"]:
        store.create(name, b"x", content_type="audio/wav", metadata={})
    parts = shards_to_ranges("m/", split(store, Shard(prefix="m/"), enough=enough))
    assert (len(parts) > 1) == (enough > 1)
    listed = [found.name for part in parts for found in part.list_objects(store)]
    assert listed == names[1:]
