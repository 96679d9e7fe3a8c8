"""Records are found below the file or folder that a prefix names."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.adapters.connect import connect_ledger
from segue.model.ledger import Change, Query, find_pages, find_records
from segue.model.media_file import MediaFile
from segue.model.transitions import arrive

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INSIDE = ["music", "music/\x1f.wav", "music/a.wav", "music/\U0010ffff.wav"]
OUTSIDE = ["mus", "music-private/a.wav", "music.wav", "music0", "musical/a.wav"]


@pytest.fixture
def ledger():
    opened = connect_ledger("sqlite:///:memory:")
    opened.change(
        [
            Change(
                uri=uri,
                transition=lambda record, uri=uri: arrive(
                    record, MediaFile(uri=uri, generation=1), NOW
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
