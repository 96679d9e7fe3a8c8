"""Prefixes as ranges, and the list of indexes that Terraform is written from."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.firestore_document import build_fields
from segue.adapters.firestore_indexes import Index, build_indexes, list_exempt_fields
from segue.model.ledger import find_prefix_end
from segue.model.record import Record, evolve

NOW = datetime(2026, 3, 1, tzinfo=UTC)

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


def test_two_indexes_serve_every_graph():
    assert build_indexes() == [Index(("open", "uri")), Index(("deleted", "uri"))]
    assert [index.modes for index in build_indexes()] == [
        ("CONTAINS", "ASCENDING"),
        ("ASCENDING", "ASCENDING"),
    ]


def test_every_field_but_done_is_exempted():
    record = Record(uri="gs://acme-audio/a.flac", version="v1", order=1, arrived_at=NOW)
    fields = build_fields(evolve(record, deleted_at=NOW))
    assert {*list_exempt_fields(), "done"} == set(fields)
