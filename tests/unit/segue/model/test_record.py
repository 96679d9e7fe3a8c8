"""Records: what the ledger stores of a file, how it is encoded, and by which terms it is found."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import msgspec
import pytest

from segue.model.media_file import MediaFile
from segue.model.record import (
    EVERYONE,
    FINISHED,
    LEASED,
    NOBODY,
    PENDING,
    UNFINISHED,
    Entry,
    Failure,
    Lease,
    Ping,
    Record,
    State,
    evolve,
    list_done_terms,
    list_open_terms,
    shrink,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
BEATS, ENERGY, STEMS = "0123456789ab", "00000000000e", "00000000005e"
FULL = Record(
    uri="gs://bucket/a/b.wav",
    version="4611686018427387904",
    order=2**62,
    size_bytes=10,
    content_type="audio/wav",
    checksum="crc32c:AAAAAA==",
    arrived_at=NOW,
    deleted_at=NOW,
    results={
        BEATS: Entry(
            job="beats",
            state=State.FAILED,
            order=2**62,
            attempts=3,
            error=Failure(kind="timeout", type="JobTimeout", message="é\n", traceback="File …"),
            lease=Lease(owner="me", expires_at=NOW),
            notify=(EVERYONE, NOBODY),
            notify_at=NOW,
            triggered_by="source",
            requests=("r1",),
            started_at=NOW,
            finished_at=NOW,
            seconds=1.5,
            cpu_seconds=0.25,
        ),
        STEMS: Entry(
            job="stems",
            state=State.DONE,
            order=2**62,
            checksums={"vocals.flac": "sha256:0", "drums.flac": "sha256:1"},
        ),
    },
    earlier={"7": {ENERGY: Entry(job="energy", state=State.DONE, order=7)}},
    pings={"beats": Ping(request="r1", at=NOW, triggered_by="source")},
)


def of(**states: State) -> Record:
    """A record with a result of each job, whose fingerprint is the job's name."""
    results = {job: Entry(job=job, state=state, order=1) for job, state in states.items()}
    return Record(uri="gs://b/a", version="1", order=1, arrived_at=NOW, results=results)


def test_a_record_survives_json_and_pickling():
    data = msgspec.json.encode(FULL)
    assert msgspec.json.decode(data, type=Record) == FULL
    assert pickle.loads(pickle.dumps(FULL)) == FULL


def test_an_entry_writes_only_what_it_knows():
    entry = Entry(job="beats", state=State.QUEUED, order=1)
    assert msgspec.to_builtins(entry) == {"job": "beats", "state": "queued", "order": 1}


def test_a_record_writes_only_what_it_knows_and_its_format():
    written = msgspec.to_builtins(Record(uri="gs://b/a", version="1", order=1, arrived_at=NOW))
    assert set(written) == {"format", "uri", "version", "order", "arrived_at"}
    assert written["format"] == 2


@pytest.mark.parametrize("format_", [1, 3, "2", None])
def test_a_record_of_another_format_is_not_guessed_at(format_):
    data = msgspec.json.encode({**msgspec.to_builtins(FULL), "format": format_})
    with pytest.raises(msgspec.ValidationError, match="format"):
        msgspec.json.decode(data, type=Record)


def test_a_record_without_what_came_later_can_still_be_read():
    data = {k: v for k, v in msgspec.to_builtins(FULL).items() if k not in {"pings", "earlier"}}
    read = msgspec.json.decode(msgspec.json.encode(data), type=Record)
    assert read == evolve(FULL, pings={}, earlier={})


def test_a_record_of_a_later_version_can_still_be_read():
    data = msgspec.json.encode({**msgspec.to_builtins(FULL), "colour": "red"})
    assert msgspec.json.decode(data, type=Record) == FULL


def test_a_record_knows_its_file():
    assert FULL.media == MediaFile(
        uri="gs://bucket/a/b.wav",
        version="4611686018427387904",
        order=2**62,
        size_bytes=10,
        content_type="audio/wav",
        checksum="crc32c:AAAAAA==",
    )


def test_evolving_gives_another_value_and_leaves_the_first():
    other = evolve(FULL, order=3)
    assert (other.order, FULL.order) == (3, 2**62)
    assert other.results == FULL.results
    with pytest.raises(AttributeError):
        FULL.order = 4  # type: ignore[misc]


def test_records_do_not_share_their_empty_results():
    one, other = (Record(uri="gs://b/a", version="1", order=1, arrived_at=NOW) for _ in range(2))
    assert one.results == {}
    assert one.results is not other.results


def test_states_are_the_closed_vocabulary_of_the_ledger():
    assert [str(s) for s in State] == [
        "queued",
        "running",
        "done",
        "failed",
        "blocked",
        "not_applicable",
    ]
    assert set(State) == UNFINISHED | FINISHED
    assert not UNFINISHED & FINISHED


# --- artifacts -------------------------------------------------------------------------------


def test_an_artifact_is_named_after_the_job_the_fingerprint_the_file_and_its_version():
    record = evolve(FULL, uri="gs://bucket/a//100%.wav", version="ab12")
    assert record.name_artifact(BEATS, "json") == f"beats/{BEATS}/a/%/100%25.wav/ab12.json"
    assert record.name_artifacts(BEATS) == []
    assert record.name_artifacts(STEMS) == [
        f"stems/{STEMS}/a/%/100%25.wav/ab12.vocals.flac",
        f"stems/{STEMS}/a/%/100%25.wav/ab12.drums.flac",
    ]


# --- terms -----------------------------------------------------------------------------------


def test_what_is_done_or_not_applicable_leaves_nothing_open():
    assert list_open_terms(of(beats=State.DONE, stems=State.NOT_APPLICABLE)) == []


@pytest.mark.parametrize("state", sorted(set(State) - {State.DONE, State.NOT_APPLICABLE}))
def test_what_is_unfinished_or_failed_is_found_by_its_job_fingerprint_and_state(state):
    assert list_open_terms(of(beats=state)) == [f"beats/beats/{state}"]


def test_whoever_is_to_be_notified_and_every_lease_is_found():
    done = Entry(job="beats", state=State.DONE, order=1, notify=(EVERYONE,))
    running = Entry(
        job="energy", state=State.RUNNING, order=1, lease=Lease(owner="me", expires_at=NOW)
    )
    record = evolve(of(), results={BEATS: done, ENERGY: running})
    assert list_open_terms(record) == [LEASED, PENDING, f"energy/{ENERGY}/running"]


def test_no_term_can_be_taken_for_a_jobs():
    """Jobs' names begin with a letter."""
    assert {PENDING[0], LEASED[0]} == {"!"}


def test_what_is_done_is_counted_of_the_job_and_of_the_fingerprint():
    old = Entry(job="beats", state=State.DONE, order=1)
    others = of(stems=State.NOT_APPLICABLE, energy=State.FAILED)
    record = evolve(others, results={**others.results, BEATS: old})
    assert list_done_terms(record) == ["beats/", f"beats/{BEATS}", "stems/stems/not_applicable"]


def test_two_results_of_a_job_are_one_file_of_the_job():
    done = Entry(job="beats", state=State.DONE, order=1)
    record = evolve(of(), results={BEATS: done, ENERGY: done})
    assert list_done_terms(record) == ["beats/", f"beats/{ENERGY}", f"beats/{BEATS}"]


def test_a_deleted_file_has_no_terms():
    assert list_open_terms(FULL) == list_done_terms(FULL) == []
    assert list_open_terms(evolve(FULL, deleted_at=None)) != []


def test_a_record_shrinks_by_tracebacks_first_and_then_by_contents_that_may_come_back():
    failure = Failure(kind="job_raised", type="ValueError", message="wrong", traceback="long")
    done = Entry(job="energy", state=State.DONE, order=1)
    failed = Entry(job="beats", state=State.FAILED, order=1, error=failure)
    record = evolve(of(), results={BEATS: failed, ENERGY: done}, earlier={"v0": {ENERGY: done}})
    short = evolve(failed, error=evolve(failure, traceback=None))
    smaller = evolve(record, results={BEATS: short, ENERGY: done})
    assert list(shrink(record)) == [record, smaller, evolve(smaller, earlier={})]
