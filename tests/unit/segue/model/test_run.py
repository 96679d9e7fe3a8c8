"""The record of a run survives what is written, and no id leads out of its folder."""

from __future__ import annotations

import getpass
import json
import socket
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError, MissingInput
from segue.model.message import build_request_id
from segue.model.run import (
    LOST,
    RunCounts,
    RunKind,
    RunRecord,
    RunSelection,
    RunState,
    encode_run,
    find_user,
    format_run_name,
    is_run_id,
    load_run,
    save_run,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ID = "20260102T030405.000000Z-0a1b2c3d"
RUN = RunRecord(
    id=ID,
    kind=RunKind.BACKFILL,
    state=RunState.FAILED,
    who="ann@laptop",
    started_at=NOW,
    updated_at=NOW + timedelta(seconds=9),
    ended_at=NOW + timedelta(seconds=9),
    selection=RunSelection(prefix="file:///music/", limit=10, sample=0.5),
    jobs=("beats", "energy"),
    force=True,
    counts=RunCounts(
        files=3, failed_files=1, jobs={"beats": {"done": 2, "failed": 1}}, left_out={"missing": 2}
    ),
    error="the first 200 files all failed",
)
RUNNING = RunRecord(
    id=ID,
    kind=RunKind.BACKFILL,
    state=RunState.RUNNING,
    started_at=NOW,
    selection=RunSelection(uris="list.txt"),
    jobs=("beats",),
)


def change(run: RunRecord, **changes: object) -> RunRecord:
    return msgspec.structs.replace(run, **changes)


@pytest.fixture
def store(tmp_path):
    return connect_store(str(tmp_path / "artifacts"))


def test_a_record_is_read_as_it_was_written(store):
    assert save_run(store, RUN)
    assert load_run(store, ID) == RUN
    assert [found.name for found in store.list()] == [f"_runs/{ID}.json"]


def test_a_record_is_replaced_only_on_purpose(store):
    save_run(store, RUNNING)
    assert not save_run(store, RUN)
    assert load_run(store, ID) == RUNNING
    assert save_run(store, RUN, replace=True)
    assert load_run(store, ID) == RUN


def test_the_document_has_its_format_and_no_defaults():
    assert json.loads(encode_run(RUNNING)) == {
        "format": 1,
        "id": ID,
        "kind": "backfill",
        "state": "running",
        "started_at": "2026-01-02T03:04:05Z",
        "selection": {"uris": "list.txt"},
        "jobs": ["beats"],
    }


def test_equal_records_have_equal_bytes():
    forth, back = {"a": {"done": 1, "failed": 2}, "b": {}}, {"b": {}, "a": {"failed": 2, "done": 1}}
    counts = [RunCounts(jobs=jobs) for jobs in (forth, back)]
    first, second = (change(RUN, counts=found) for found in counts)
    assert encode_run(first) == encode_run(second)


def write(store, data: bytes) -> None:
    store.create(format_run_name(ID), data, content_type="application/json", metadata={})


def test_fields_that_are_not_known_are_ignored(store):
    document = json.loads(encode_run(RUN))
    document["selection"]["colour"] = document["mood"] = {"blue": 1}
    write(store, json.dumps(document).encode())
    assert load_run(store, ID) == RUN


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": None},
        {"kind": "party"},
        {"state": "tired"},
        {"started_at": "2026-01-02T03:04:05"},  # in no time zone
        {"jobs": "beats"},
        {"counts": {"files": "many"}},
    ],
    ids=str,
)
def test_what_is_no_record_of_this_format_is_refused(store, changes):
    write(store, json.dumps({**json.loads(encode_run(RUN)), **changes}).encode())
    with pytest.raises(ConfigurationError, match="cannot be read as format 1"):
        load_run(store, ID)


@pytest.mark.parametrize("data", [b"", b"{", b'{"id": "\xff"}', b"[" * 100_000, b"{}"])
def test_damaged_bytes_are_refused(store, data):
    write(store, data)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_run(store, ID)


def test_a_run_that_is_not_there_is_missing(store):
    with pytest.raises(MissingInput):
        load_run(store, ID)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/passwd",
            "a\\b",
            "a\0",
            "a\n",
            "-a",
            ".a",
            " a",
            "a b",
        ),
        *("é", "\udce9", "x" * 101, "%2e%2e%2fx"),
    ],
    ids=ascii,
)
def test_what_is_no_id_names_nothing(store, text):
    assert not is_run_id(text)
    with pytest.raises(ConfigurationError, match="is not the id of a run"):
        load_run(store, text)
    with pytest.raises(ConfigurationError, match="is not the id of a run"):
        save_run(store, change(RUN, id=text))
    assert list(store.list()) == []


@given(st.text(max_size=30) | st.text(alphabet="./\\a-", max_size=30))
def test_no_id_leads_out_of_the_folder(text):
    if is_run_id(text):
        folder, _, leaf = format_run_name(text).partition("/")
        assert (folder, "/" in leaf, leaf in {".", ".."}) == ("_runs", False, False)


def test_ids_as_they_are_made_are_ids():
    assert is_run_id(build_request_id(NOW))


@pytest.mark.parametrize(
    ("run", "is_lost"),
    [
        (RUNNING, True),
        (change(RUNNING, updated_at=NOW + timedelta(seconds=1)), False),
        (change(RUNNING, runner="DataflowRunner"), False),
        (change(RUNNING, state=RunState.ACCEPTED), False),
        (RUN, False),
    ],
)
def test_a_run_that_says_nothing_any_more_is_lost(run, is_lost):
    just_after = NOW + LOST + timedelta(seconds=1)
    assert run.is_lost(just_after) is is_lost
    assert not run.is_lost(NOW + LOST)


def test_a_user_is_named_with_the_machine(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    monkeypatch.setattr(socket, "gethostname", lambda: "laptop")
    assert find_user() == "ann@laptop"


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 4711"), OSError("none")])
def test_a_user_without_a_name_has_a_number(monkeypatch, error):
    def fail() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", fail)
    monkeypatch.setattr("os.getuid", lambda: 4711)
    assert find_user().startswith("4711@")


def test_a_name_that_is_not_text_can_be_written_all_the_same(monkeypatch, store):
    monkeypatch.setattr(getpass, "getuser", lambda: "ren\udce9")
    save_run(store, change(RUN, who=find_user()))
    assert load_run(store, ID).who.startswith("ren\\xe9@")
