"""Records: what the ledger stores of a file, and how it is encoded."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import msgspec
import pytest

from segue.model.media_file import MediaFile
from segue.model.record import Entry, Failure, Lease, Ping, Record, State, evolve

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FULL = Record(
    uri="gs://bucket/a/b.wav",
    generation=2**62,
    size_bytes=10,
    content_type="audio/wav",
    checksum="crc32c:AAAAAA==",
    arrived_at=NOW,
    deleted_at=NOW,
    jobs={
        "beats": Entry(
            state=State.FAILED,
            fingerprint="0123456789ab",
            generation=2**62,
            artifact="gs://out/x",
            checksum="sha256:0",
            attempts=3,
            error=Failure(kind="timeout", type="JobTimeout", message="é\n"),
            lease=Lease(owner="me", expires_at=NOW),
            pending_targets=("energy", "*"),
            request="r1",
            started_at=NOW,
            seconds=1.5,
            cpu_seconds=0.25,
        )
    },
    pings={"beats": Ping(request="r1", at=NOW)},
)


def test_a_record_survives_json_and_pickling():
    data = msgspec.json.encode(FULL)
    assert msgspec.json.decode(data, type=Record) == FULL
    assert pickle.loads(pickle.dumps(FULL)) == FULL


def test_an_entry_writes_only_what_it_knows():
    entry = Entry(state=State.QUEUED, fingerprint="0123456789ab", generation=1)
    data = {"state": "queued", "fingerprint": "0123456789ab", "generation": 1}
    assert msgspec.to_builtins(entry) == data


def test_a_record_writes_only_what_it_knows():
    record = Record(uri="gs://b/a", generation=1, arrived_at=NOW)
    assert set(msgspec.to_builtins(record)) == {"uri", "generation", "arrived_at"}


def test_a_record_of_an_earlier_version_can_still_be_read():
    data = {k: v for k, v in msgspec.to_builtins(FULL).items() if k != "pings"}
    assert msgspec.json.decode(msgspec.json.encode(data), type=Record) == evolve(FULL, pings={})


def test_a_record_of_a_later_version_can_still_be_read():
    data = msgspec.json.encode({**msgspec.to_builtins(FULL), "colour": "red"})
    assert msgspec.json.decode(data, type=Record) == FULL


def test_a_record_knows_its_file():
    assert FULL.media == MediaFile(
        uri="gs://bucket/a/b.wav",
        generation=2**62,
        size_bytes=10,
        content_type="audio/wav",
        checksum="crc32c:AAAAAA==",
    )


def test_evolving_gives_another_value_and_leaves_the_first():
    other = evolve(FULL, generation=3)
    assert (other.generation, FULL.generation) == (3, 2**62)
    assert other.jobs == FULL.jobs
    with pytest.raises(AttributeError):
        FULL.generation = 4  # type: ignore[misc]


@pytest.mark.parametrize(("targets", "pending"), [([(), ()], False), ([(), ("energy",)], True)])
def test_a_record_has_pending_targets_if_any_of_its_jobs_has(targets, pending):
    entry = FULL.jobs["beats"]
    jobs = {f"job{i}": evolve(entry, pending_targets=t) for i, t in enumerate(targets)}
    assert evolve(FULL, jobs=jobs).has_pending_targets is pending


def test_records_do_not_share_their_empty_jobs():
    one, other = (Record(uri="gs://b/a", generation=1, arrived_at=NOW) for _ in range(2))
    assert one.jobs == {}
    assert one.jobs is not other.jobs


def test_states_are_the_closed_vocabulary_of_the_ledger():
    assert [str(s) for s in State] == ["queued", "running", "done", "failed", "blocked"]


def test_stored_fields_keep_their_names():
    """A ledger outlives the names in the code: what an older version stored must be read."""
    entry = Entry(
        state=State.QUEUED,
        fingerprint="0" * 12,
        generation=1,
        pending_targets=("energy",),
        pending_at=NOW,
    )
    stored = msgspec.to_builtins(entry, builtin_types=(datetime,))
    assert list(stored["wanted"]) == ["energy"]
    assert stored["wanted_at"] == NOW
    assert msgspec.convert(stored, Entry) == entry
