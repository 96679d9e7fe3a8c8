"""Records are found below the file or folder that a prefix names, and by their terms."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.adapters.connect import connect_ledger
from segue.model.graph import parse_graph
from segue.model.ledger import (
    Change,
    Query,
    find_pages,
    find_records,
    find_records_by_state,
    find_records_by_terms,
)
from segue.model.media_file import MediaFile
from segue.model.record import LEASED, PENDING, Entry, Lease, State, evolve
from segue.model.transitions import arrive

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INSIDE = ["music", "music/\x1f.wav", "music/a.wav", "music/\U0010ffff.wav"]
GRAPH = parse_graph(
    """
    jobs:
      beats: {run: "features:beats", needs: {media: source}, writes: application/json}
      energy: {run: "features:energy", needs: {beats: beats}, writes: application/json}
    """
)
BEATS = GRAPH.fingerprints["beats"]
OUTSIDE = ["mus", "music-private/a.wav", "music.wav", "music0", "musical/a.wav"]


@pytest.fixture
def ledger():
    opened = connect_ledger("sqlite:///:memory:")
    opened.change(
        [
            Change(
                uri=uri,
                transition=lambda record, uri=uri: arrive(
                    record, MediaFile(uri=uri, version="v1", order=1), NOW
                ),
            )
            for uri in (f"gs://b/{name}" for name in [*INSIDE, *OUTSIDE])
        ]
    )
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("prefix", "found"), [("music", INSIDE), ("music/", INSIDE[1:]), ("music/a.wav", INSIDE[2:3])]
)
def test_a_prefix_is_a_file_or_a_folder(ledger, prefix, found):
    query = Query(prefix=f"gs://b/{prefix}")
    assert [r.uri for r in find_records(ledger, query)] == [f"gs://b/{name}" for name in found]


def test_it_goes_on_behind_a_uri(ledger):
    query = Query(prefix="gs://b/music")
    for start in range(len(INSIDE)):
        rest = find_records(ledger, query, after=f"gs://b/{INSIDE[start]}")
        assert [r.uri.removeprefix("gs://b/") for r in rest] == INSIDE[start + 1 :]
    assert sum(len(page) for page in find_pages(ledger, query, limit=1)) == len(INSIDE)


@pytest.fixture
def with_results(ledger):
    """The ledger, with a failure, a lease that somebody waits for, and an old failure."""
    lease = Lease(owner="w", expires_at=NOW)
    results = {
        "music/a.wav": {BEATS: Entry(job="beats", state=State.FAILED, order=1)},
        "music-private/a.wav": {
            BEATS: Entry(job="beats", state=State.RUNNING, order=1, lease=lease, notify=("*",))
        },
        "mus": {"0" * 12: Entry(job="beats", state=State.FAILED, order=1)},
    }
    for name, found in results.items():
        add = lambda r, found=found: (evolve(r, results=found), None)  # noqa: E731
        ledger.change([Change(uri=f"gs://b/{name}", transition=add)])
    return ledger


def test_a_record_with_several_terms_is_found_once(with_results):
    found = find_records_by_terms(with_results, [PENDING, LEASED, f"beats/{BEATS}/failed"])
    assert [r.uri for r in found] == ["gs://b/music-private/a.wav", "gs://b/music/a.wav"]
    (only,) = find_records_by_terms(with_results, [LEASED, PENDING], "gs://b/music-private")
    assert only.uri == "gs://b/music-private/a.wav"
    assert list(find_records_by_terms(with_results, [])) == []


def test_a_state_is_that_of_a_job_as_the_graph_now_defines_it(with_results):
    found = find_records_by_state(with_results, GRAPH, ["beats"], [State.FAILED], "")
    assert [r.uri for r in found] == ["gs://b/music/a.wav"]
    states = [State.FAILED, State.RUNNING, State.QUEUED]
    found = find_records_by_state(with_results, GRAPH, ["beats", "energy"], states, "")
    assert [r.uri for r in found] == ["gs://b/music-private/a.wav", "gs://b/music/a.wav"]
