"""What cannot be cancelled, and what is said of it; real runs are in the integration tests."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from segue.adapters.connect import connect_ledger
from segue.clock import utc_now
from segue.maintenance import cancellation as module
from segue.model.run import (
    RunKind,
    RunRecord,
    RunSelection,
    RunState,
    find_user,
    load_run,
    save_run,
)
from segue_cli.exit_code import ExitCode

ID = "20260102T030405.000000Z-0a1b2c3d"
LEDGER = ("--ledger", "sqlite:///ledger.db")


def save(project, **fields) -> RunRecord:
    now = utc_now()
    given = {"kind": RunKind.BACKFILL, "state": RunState.RUNNING, "started_at": now, **fields}
    run = RunRecord(id=ID, selection=RunSelection(), jobs=("fine",), **given)
    save_run(project.artifacts, run)
    return run


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"state": RunState.DONE, "ended_at": utc_now()}, "is over: it was done at 20"),
        ({"state": RunState.CANCELLED}, "is over: it was cancelled"),
        ({"started_at": utc_now() - timedelta(hours=1)}, "is lost: its process was killed"),
        ({"kind": RunKind.REQUEST, "state": RunState.ACCEPTED}, "'segue pause'"),
        ({"kind": RunKind.GC}, "is a gc, and only a backfill can be cancelled"),
    ],
)
def test_what_does_not_run_is_refused(segue, project, fields, reason):
    save(project, **fields)
    said = segue("cancel", "0a1b2c3d", *LEDGER)
    assert (said.code, said.out) == (ExitCode.USAGE, "")
    assert reason in said.err
    assert connect_ledger("sqlite:///ledger.db").read_controls().cancelled == {}


@pytest.mark.parametrize("arguments", [("nothing",), (), (ID, "--timeout", "soon")])
def test_wrong_uses_are_refused(segue, project, arguments):
    assert segue("cancel", *arguments, *LEDGER).code == ExitCode.USAGE


def test_a_ledger_that_there_is_not_is_refused(segue, project):
    save(project)
    said = segue("cancel", ID, "--ledger", "sqlite:///other.db")
    assert said.code == ExitCode.USAGE
    assert "there is no ledger sqlite:///other.db" in said.err
    assert not (project.folder / "other.db").exists()


def test_a_run_that_does_not_end_in_time_was_told_to(segue, project):
    save(project)
    said = segue("cancel", ID, *LEDGER, "--timeout", "0s")
    assert said.code == ExitCode.UNFINISHED
    assert "It has not ended after 0 s" in said.out
    order = connect_ledger("sqlite:///ledger.db").read_controls().cancelled[ID]
    assert order.by == find_user()
    assert segue("cancel", ID, *LEDGER, "--timeout", "0s", "--json").json["state"] == "running"


def test_a_job_on_dataflow_is_cancelled_by_the_service(segue, project, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "cancel_job", asked.append)
    name = "projects/acme/locations/here/jobs/1"
    run = save(project, runner="DataflowRunner", runner_job=name)
    said = segue("cancel", ID, *LEDGER)
    assert said.code == ExitCode.OK
    assert name in said.out
    assert asked == [name]
    found = load_run(project.artifacts, ID)
    assert (found.state, found.cancelled_by) == (RunState.CANCELLED, find_user())
    assert msgspec.structs.replace(found, state=run.state, ended_at=None, cancelled_by=None) == run


def test_workers_of_a_job_elsewhere_whose_id_is_not_known_are_told_by_the_ledger(segue, project):
    save(project, runner="DataflowRunner")
    said = segue("cancel", ID, *LEDGER)
    assert said.code == ExitCode.OK
    assert "Its workers were told" in said.out
    assert load_run(project.artifacts, ID).state is RunState.CANCELLED
    assert set(connect_ledger("sqlite:///ledger.db").read_controls().cancelled) == {ID}
