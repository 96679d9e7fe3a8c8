"""Who started what, when, and how it ended; and that commands which change things are listed."""

from __future__ import annotations

from datetime import timedelta

import click
import pytest

from segue.clock import utc_now
from segue.model.run import RunCounts, RunKind, RunRecord, RunSelection, RunState, save_run
from segue_cli.exit_code import ExitCode
from segue_cli.main import load_command

ID = "20260102T030405.000000Z-0a1b2c3d"


def save(project, run_id: str = ID, **fields) -> RunRecord:
    now = utc_now()
    given = {
        "kind": RunKind.BACKFILL,
        "state": RunState.DONE,
        "who": "ann@laptop",
        "started_at": now - timedelta(seconds=90),
        "ended_at": now,
        "selection": RunSelection(prefix="file:///music/"),
        "jobs": ("fine", "after"),
        "counts": RunCounts(
            files=3,
            failed_files=1,
            jobs={"fine": {"done": 3}, "after": {"done": 2, "failed": 1}},
            failures={"after": {"timeout": 1}},
            cpu_seconds={"fine": 3600.0},
            left_out={"empty": 2},
        ),
        **fields,
    }
    run = RunRecord(id=run_id, **given)
    save_run(project.artifacts, run)
    return run


def test_each_run_has_lines_with_all_that_matters(segue, project):
    save(project)
    said = segue("runs")
    first, second, third = said.out.splitlines()
    assert first.split()[0] == "0a1b2c3d"
    assert first.endswith("backfill   done         1 min 30 s")
    assert second.strip() == "3 files, 1 failed, 1 h 00 min of CPU, cost 0.06"
    assert third.strip() == "ann@laptop: fine, after of file:///music/"
    assert said.err == ""


def test_in_json_runs_have_their_whole_records(segue, project):
    run = save(project)
    found = segue("runs", "--json", "--price", "0.1").json
    assert found["total"] == 1
    [shown] = found["runs"]
    assert (shown["id"], shown["state"], shown["kind"]) == (run.id, "done", "backfill")
    assert (shown["duration_s"], shown["vcpu_hours"], shown["cost"]) == (90.0, 1.0, 0.1)
    assert shown["counts"]["failures"] == {"after": {"timeout": 1}}


def test_one_run_is_shown_with_its_jobs(segue, project):
    run = save(project, error="no route")
    shown = segue("runs", "0a1b2c3d").out
    for part in (run.id, "ann@laptop", "no route", "2 empty", "after timeout 1", "1 min 30 s"):
        assert part in shown
    assert [line.split() for line in shown.splitlines()[-2:]] == [
        ["after", "2", "1"],
        ["fine", "3", "·"],
    ]
    assert segue("runs", run.id, "--json").json["error"] == "no route"


def test_the_jobs_of_a_run_have_columns_in_the_order_of_a_summary(segue, project):
    jobs = {"after": {"unheard_of": 1, "not_applicable": 2, "failed": 1}, "fine": {"done": 3}}
    save(project, counts=RunCounts(files=3, jobs=jobs))
    lines = segue("runs", "0a1b2c3d").out.splitlines()
    [header] = [line for line in lines if line.startswith("job ")]
    assert header.split(maxsplit=3)[:3] == ["job", "done", "failed"]
    assert header.split(maxsplit=3)[3].split() == ["not", "applicable", "unheard", "of"]


def test_a_cost_above_nothing_is_not_shown_as_nothing(segue, project):
    for seconds, cost in ((60.0, "cost <0.01"), (3600.0, "cost 0.06")):
        save(project, counts=RunCounts(files=3, cpu_seconds={"fine": seconds}))
        assert segue("runs").out.splitlines()[1].endswith(cost)
        (project.folder / f"artifacts/_runs/{ID}.json").unlink()


def test_a_run_whose_process_was_killed_is_lost(segue, project):
    ago = utc_now() - timedelta(hours=1)
    save(project, state=RunState.RUNNING, started_at=ago, updated_at=ago, ended_at=None)
    assert " lost " in segue("runs").out
    assert segue("runs", ID, "--json").json["state"] == "lost"


def test_no_more_runs_are_listed_than_wanted(segue, project):
    save(project)
    save(project, "20260103T030405.000000Z-ffffffff")
    said = segue("runs", "--limit", "1")
    assert "ffffffff" in said.out
    assert "0a1b2c3d" not in said.out
    assert "the newest of 2" in said.out


def test_where_nothing_ran_that_is_said(segue, project):
    assert segue("runs").out == "No runs are recorded here.\n"
    assert segue("runs", "--json").json == {"runs": [], "total": 0}


@pytest.mark.parametrize("arguments", [("nothing",), ("--limit", "0"), ("--limit", "x")])
def test_wrong_uses_are_refused(segue, project, arguments):
    said = segue("runs", *arguments)
    assert (said.code, said.out) == (ExitCode.USAGE, "")
    assert "error" in said.err


def test_a_record_that_cannot_be_read_is_named(segue, project):
    save(project)
    (project.folder / f"artifacts/_runs/{ID[:-1]}0.json").write_text("[]")
    said = segue("runs")
    assert said.code == ExitCode.FAILURES
    assert "cannot be read" in said.err
    assert "0a1b2c3d" in said.out


def test_commands_that_change_something_are_runs(segue, project):
    media = project.media("song.wav")
    results = {"fine": project.failed("fine", media)}
    project.record(media, results)
    assert segue("retry", "--ledger", "sqlite:///ledger.db", "--dry-run").code == ExitCode.OK
    assert segue("runs", "--json").json["runs"] == []
    assert segue("retry", "--ledger", "sqlite:///ledger.db", "--yes").code == ExitCode.OK
    assert segue("gc", "--ledger", "sqlite:///ledger.db").code == ExitCode.OK
    assert segue("gc", "--ledger", "sqlite:///ledger.db", "--delete").code == ExitCode.OK
    erased = segue("erase", "music/song.wav", "--yes", "--ledger", "sqlite:///ledger.db")
    assert erased.code == ExitCode.OK
    found = segue("runs", "--json").json["runs"]
    assert [(run["kind"], run["state"]) for run in found] == [
        ("erase", "done"),
        ("gc", "done"),
        ("retry", "done"),
    ]
    assert found[0]["counts"]["actions"] == {"files_erased": 1}
    assert found[0]["selection"] == {}  # nothing is left of the file's name
    assert found[2]["counts"]["actions"] == {"failed": 1}


def test_the_shell_completes_the_names_of_runs(project, segue):
    save(project)
    save(project, "20260103T030405.000000Z-ffffffff", kind=RunKind.GC)
    for name in ("runs", "cancel"):
        command = load_command(name)
        [argument] = [p for p in command.params if p.name == "run"]
        context = click.Context(command)
        found = argument.shell_complete(context, "0a")
        assert [item.value for item in found] == ["0a1b2c3d"]
        assert found[0].help.startswith("backfill of ")
        assert len(argument.shell_complete(context, "")) == 2
