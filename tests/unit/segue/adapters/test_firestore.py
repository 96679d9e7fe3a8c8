"""Writes: their condition, and their size; what needs a server is in the integration tests."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.cloud.firestore_v1 import types

from segue.adapters.firestore import FirestoreLedger
from segue.adapters.firestore_document import build_fields, fit_record
from segue.errors import ConfigurationError
from segue.model.ledger import Change, Snapshot
from segue.model.record import Entry, Failure, Record, State, evolve

URI = "gs://acme-audio/a.flac"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("nanos", [0, 1, 500_000_000, 123_456_000, 999_999_999])
def test_a_write_depends_on_exactly_the_time_that_the_server_gave(monkeypatch, nanos):
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")  # nothing is sent to it
    ledger = FirestoreLedger("firestore://acme-audio")
    conditions = []
    given = {"seconds": 1_772_366_400, "nanos": nanos}

    def batch_write(request, **_options):
        conditions.append(types.Precondition.pb(request["writes"][0].current_document))
        raw = types.BatchWriteResponse.pb()(write_results=[{"update_time": given}], status=[{}])
        return types.BatchWriteResponse.wrap(raw)

    monkeypatch.setattr(ledger._connection.client._firestore_api, "batch_write", batch_write)
    monkeypatch.setattr(ledger, "_check_about", lambda _timeout_s: None)
    record = Record(uri=URI, version="v1", order=1, arrived_at=NOW)
    known = Snapshot(record=None)
    for size_bytes in (1, 2):
        new = evolve(record, size_bytes=size_bytes)
        change = Change(uri=URI, transition=lambda _, new=new: (new, None), known=known)
        known = ledger.change([change])[0].snapshot
    first, second = conditions
    assert first.WhichOneof("condition_type") == "exists"
    assert first.exists is False
    assert (second.update_time.seconds, second.update_time.nanos) == (1_772_366_400, nanos)
    assert known.revision.startswith("2026-03-01T12:00:00.")
    ledger.close()


def build_results(jobs: int, *, traceback: str | None) -> dict[str, Entry]:
    failure = Failure(kind="job_raised", type="ValueError", message="wrong", traceback=traceback)
    return {
        f"{n:012x}": Entry(job=f"job_{n}", state=State.FAILED, order=1, error=failure)
        for n in range(jobs)
    }


def test_a_record_that_is_too_large_for_a_document_does_without_its_tracebacks():
    record = Record(uri=URI, version="v1", order=1, arrived_at=NOW)
    large = evolve(record, results=build_results(300, traceback="\n" * 4000))
    expected = evolve(record, results=build_results(300, traceback=None))
    assert fit_record(large) == (expected, build_fields(expected))
    assert fit_record(expected)[0] is expected


def test_what_cannot_be_made_smaller_is_refused_by_name():
    record = Record(uri=URI, version="v1", order=1, arrived_at=NOW, checksum="x" * (1 << 20))
    with pytest.raises(ConfigurationError, match=r"a\.flac is \d+ bytes.*segue gc"):
        fit_record(record)
