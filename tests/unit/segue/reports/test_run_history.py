"""The history of runs: the newest first, by id or by how that ends, and lost ones among them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError
from segue.model.run import RunCounts, RunKind, RunRecord, RunSelection, RunState, save_run
from segue.reports.run_history import (
    describe_state,
    find_run,
    list_runs,
    measure_duration_s,
    shorten_id,
    sum_vcpu_hours,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def run(day: int, end: str, **fields) -> RunRecord:
    given = {"kind": RunKind.BACKFILL, "state": RunState.DONE, "started_at": NOW, **fields}
    return RunRecord(
        id=f"202601{day:02}T030405.000000Z-{end}", selection=RunSelection(), jobs=(), **given
    )


@pytest.fixture
def store(tmp_path):
    store = connect_store(str(tmp_path))
    for one in (run(3, "0a1b2c3d"), run(1, "11111111"), run(2, "22222222")):
        save_run(store, one)
    return store


def test_the_newest_runs_come_first_and_no_more_than_the_limit_are_read(store):
    assert [shorten_id(r.id) for r in list_runs(store, 9).runs] == [
        "0a1b2c3d",
        "22222222",
        "11111111",
    ]
    found = list_runs(store, 2)
    assert [shorten_id(r.id) for r in found.runs] == ["0a1b2c3d", "22222222"]
    assert found.total == 3


def test_where_nothing_ran_there_are_none(tmp_path):
    assert list_runs(connect_store(str(tmp_path / "new")), 5).runs == ()


def test_a_record_that_cannot_be_read_is_named_and_others_are_listed(store, tmp_path):
    (tmp_path / "_runs/20260104T030405.000000Z-bad00000.json").write_text("{")
    (tmp_path / "_runs/notes.txt").write_text("mine")
    found = list_runs(store, 9)
    assert len(found.runs) == 3
    [problem] = found.unreadable
    assert "bad00000" in problem


def test_a_run_is_found_by_its_id_or_how_that_ends(store):
    assert find_run(store, run(1, "11111111").id) == run(1, "11111111")
    assert find_run(store, "22222222") == run(2, "22222222")


@pytest.mark.parametrize("name", ["2222", "../22222222", "", "99999999"])
def test_a_run_that_there_is_not_is_refused(store, name):
    with pytest.raises(ConfigurationError, match="there is no run"):
        find_run(store, name)


def test_an_end_that_several_ids_have_is_refused(store):
    save_run(store, run(9, "22222222"))
    with pytest.raises(ConfigurationError, match="2 runs have ids that end with '22222222'"):
        find_run(store, "22222222")


def test_a_run_that_has_not_been_heard_of_is_lost_and_ended_then():
    heard = NOW + timedelta(minutes=2)
    lost = run(1, "11111111", state=RunState.RUNNING, updated_at=heard)
    later = heard + timedelta(hours=1)
    assert describe_state(lost, later) == "lost"
    assert measure_duration_s(lost, later) == 120.0
    assert describe_state(lost, heard) == "running"
    elsewhere = run(1, "11111111", state=RunState.RUNNING, runner="DataflowRunner")
    assert describe_state(elsewhere, later) == "running"
    assert measure_duration_s(elsewhere, later) == 3720.0


def test_how_long_a_request_takes_its_record_does_not_know():
    assert measure_duration_s(run(1, "11111111", state=RunState.ACCEPTED), NOW) is None


def test_the_processor_time_of_all_jobs_counts():
    counts = RunCounts(cpu_seconds={"a": 1800.0, "b": 5400.0})
    assert sum_vcpu_hours(run(1, "11111111", counts=counts)) == 2.0
