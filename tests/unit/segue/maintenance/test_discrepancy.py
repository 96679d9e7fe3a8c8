"""Discrepancies between a listing and the ledger are found, and apparent ones are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.maintenance.discrepancy import (
    Discrepancy,
    DiscrepancyFinder,
    DiscrepancyKind,
    ListedFile,
    Pair,
    pair_by_uri,
)
from segue.model.graph import parse_graph
from segue.model.media_file import MediaFile
from segue.model.record import Entry, Record, State

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
URI = "gs://acme-audio/a.wav"
GRAPH = parse_graph(
    """
    jobs:
      fine: {run: "m:f", needs: {media: source}, writes: application/json}
      beside: {run: "m:f", needs: {media: source}, writes: application/json}
      after: {run: "m:f", needs: {value: fine}, writes: application/json}
    """
)
FINDER = DiscrepancyFinder.for_graph(GRAPH, started_at=START, grace=HOUR)

names = st.lists(st.text("ab/\x7f\ue000\U0001f3b5", max_size=3), unique=True).map(sorted)


def media(generation: int = 5) -> MediaFile:
    return MediaFile(uri=URI, generation=generation, size_bytes=3)


def there(generation: int = 5) -> ListedFile:
    return ListedFile(uri=URI, media=media(generation))


def record(generation: int = 5, age: timedelta = 2 * HOUR, **more) -> Record:
    return Record(uri=URI, generation=generation, arrived_at=START - age, **more)


def begun(job: str = "fine", state: State = State.QUEUED, attempts: int = 0) -> dict[str, Entry]:
    return {job: Entry(state=state, fingerprint="0" * 12, generation=5, attempts=attempts)}


@given(names, names)
def test_both_sides_are_paired_completely_and_in_order(listed, recorded):
    objects = [ListedFile(uri=name, media=None) for name in listed]
    known = [Record(uri=name, generation=1, arrived_at=START) for name in recorded]
    pairs = list(pair_by_uri(objects, known))
    found = [
        (p.listed.uri if p.listed else None, p.record.uri if p.record else None) for p in pairs
    ]
    assert found == [
        (name if name in listed else None, name if name in recorded else None)
        for name in sorted({*listed, *recorded})
    ]


@pytest.mark.parametrize(
    ("listed", "known", "kind"),
    [
        (there(), None, DiscrepancyKind.UNRECORDED),
        (there(6), record(5), DiscrepancyKind.OVERWRITTEN),
        (there(6), record(5, deleted_at=START), DiscrepancyKind.OVERWRITTEN),
        (there(5), record(5), DiscrepancyKind.UNSTARTED),
        (None, record(5), DiscrepancyKind.GONE),
        (None, record(5, age=timedelta(seconds=1)), DiscrepancyKind.GONE),
    ],
)
def test_a_missed_event_is_found(listed, known, kind):
    found = FINDER.find(Pair(listed=listed, record=known))
    expected = media(listed.media.generation) if listed else known.media
    assert found == Discrepancy(kind=kind, media=expected)


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        pytest.param(there(5), record(6), id="the listing is older"),
        pytest.param(there(5), record(5, deleted_at=START), id="deleted since it was listed"),
        pytest.param(None, record(5, deleted_at=START), id="its deletion is known"),
        pytest.param(None, record(5, age=timedelta()), id="it arrived since the run began"),
        pytest.param(None, record(5, age=-HOUR), id="it arrived long since the run began"),
        pytest.param(ListedFile(uri=URI, media=None), None, id="no media of the catalogue"),
        pytest.param(
            ListedFile(uri=URI, media=None), record(5), id="media of an earlier catalogue"
        ),
        pytest.param(there(5), record(5, age=HOUR / 2), id="its turn may still come"),
    ],
)
def test_what_only_seems_wrong_is_left_alone(listed, known):
    assert FINDER.find(Pair(listed=listed, record=known)) is None


@pytest.mark.parametrize(
    ("jobs", "unstarted"),
    [
        ({}, True),
        (begun(), True),  # asked for by a request whose messages were lost
        (begun(attempts=1), False),
        (begun(state=State.RUNNING), False),
        (begun("beside", State.DONE), False),
        (begun(state=State.FAILED), False),
        (begun("after", State.BLOCKED), True),  # it does not read the source
    ],
)
def test_a_file_is_unstarted_if_no_job_that_reads_it_ever_started(jobs, unstarted):
    found = FINDER.find(Pair(listed=there(), record=record(jobs=jobs)))
    assert (found is not None) == unstarted


def test_without_grace_a_file_is_unstarted_at_once():
    finder = DiscrepancyFinder.for_graph(GRAPH, started_at=START, grace=timedelta())
    found = finder.find(Pair(listed=there(), record=record(age=timedelta())))
    assert found == Discrepancy(kind=DiscrepancyKind.UNSTARTED, media=media())
