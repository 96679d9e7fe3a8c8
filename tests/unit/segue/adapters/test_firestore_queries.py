"""Prefixes as ranges, and the list of indexes that Terraform is written from."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.firestore_indexes import Index, build_indexes, list_exempt_fields
from segue.model.graph import parse_graph
from segue.model.ledger import find_prefix_end
from segue.model.record import Record

# Few letters, so that prefixes match; both ends of what can be encoded, so that borders are met.
letters = st.sampled_from("ab\0\x7f\x80\ud7ff\ue000\uffff\U0001f3b5\U0010ffff")
texts = st.text(letters, max_size=5)


@given(prefix=texts, text=texts)
def test_a_range_holds_just_what_starts_with_the_prefix(prefix, text):
    end = find_prefix_end(prefix)
    data = text.encode()
    within = prefix.encode() <= data and (end is None or data < end.encode())
    assert within == text.startswith(prefix)


@pytest.mark.parametrize("prefix", ["", "\U0010ffff", "\U0010ffff" * 3])
def test_nothing_is_behind_the_last_text(prefix):
    assert find_prefix_end(prefix) is None


def test_a_graph_needs_two_indexes_a_job_and_two():
    graph = parse_graph(
        """
        jobs:
          beats: {run: "features:beats", needs: {media: source}, writes: application/json}
          mel: {run: "features:mel", needs: {media: source}, writes: application/x-npz}
        """
    )
    assert build_indexes(graph) == [
        Index(("deleted", "uri")),
        Index(("deleted", "owed", "uri")),
        Index(("deleted", "jobs.beats.state", "uri")),
        Index(("deleted", "jobs.beats.state", "jobs.beats.fingerprint")),
        Index(("deleted", "jobs.mel.state", "uri")),
        Index(("deleted", "jobs.mel.state", "jobs.mel.fingerprint")),
    ]


def test_every_field_of_a_record_is_exempted():
    assert set(list_exempt_fields()) == {
        *Record.__struct_fields__,
        "deleted",
        "owed",
        "expires_at",
    }
    assert all(re.fullmatch(r"[a-z_]+", path) for path in list_exempt_fields())
