"""However a job fails, only that job of that file fails."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.errors import Kind
from segue.model.graph import parse_graph
from segue.model.record import State
from segue.model.transitions import Result
from segue.worker.pool import Pool
from segue.worker.protocol import Task
from segue_support.trial import Trial, run_tasks

GOOD = ("good-0", "good-1", "good-2", "good-3")
QUICK = "timeout_s: 0.3"

# One pool runs all of these: it must survive each of them.
FAILURES = [
    (
        "raise_error",
        "",
        Kind.JOB_RAISED,
        "TypeError: a list is not a tempo (segue_support/jobs.py:",
    ),
    ("recurse", "", Kind.JOB_RAISED, "RecursionError: maximum recursion depth exceeded"),
    ("interrupt", "", Kind.JOB_RAISED, "KeyboardInterrupt (segue_support/jobs.py:"),
    ("raise_unprintable", "", Kind.JOB_RAISED, "Unprintable: its message cannot be shown"),
    ("refuse", "", Kind.CORRUPT_MEDIA, ": it is bad"),
    ("exit_python", "", Kind.CRASHED, "the job called sys.exit(3)"),
    ("exit_process", "", Kind.CRASHED, "exited with code 3"),
    ("segfault", "", Kind.CRASHED, "killed by signal 11 (SIGSEGV)"),
    ("kill_itself", "", Kind.CRASHED, "signal 9 (SIGKILL), but not by Segue: the machine probably"),
    ("kill_parent", "", Kind.CRASHED, "the job, or code that it calls, kills its parent"),
    ("fill_disk", "", Kind.NO_SPACE, "it needs more space than is free ("),
    ("close_descriptors", "", Kind.CRASHED, "closes file descriptors that it did not open"),
    ("write_to_descriptors", "", Kind.CRASHED, "writes to file descriptors that it did not open"),
    ("hang", QUICK, Kind.TIMEOUT, "its timeout_s is 0.3"),
    ("hang_and_ignore_signals", QUICK, Kind.TIMEOUT, "its timeout_s is 0.3"),
    (
        "allocate_memory",
        "params: {gib: 0.5}, resources: {memory_gib: 0.25}",
        Kind.OUT_OF_MEMORY,
        "it needed more than its 0.25 GiB; raise its resources.memory_gib",
    ),
    ("break_module", "", Kind.JOB_RAISED, "TypeError: 'NoneType' object is not callable"),
    ("return_object", "", Kind.BAD_OUTPUT, "object"),
    ("return_coroutine", "", Kind.BAD_OUTPUT, "coroutine"),
]
HARMLESS = ["fork", "modest_allocation", "stop_parent", "kill_itself_in_company"]
OTHERS = [
    ("first", "fine", "media: source", ""),
    ("second", "segfault_after", "value: first, media: source", ""),
    ("third", "after", "value: second", ""),
    ("fourth", "after", "value: third", ""),
    ("beside", "after", "value: first", ""),
    (
        "away_twice",
        "be_unavailable",
        "media: source",
        f"params: {{times: 2}}, attempts: 3, {QUICK}",
    ),
    ("away", "be_unavailable", "media: source", "params: {times: 9}, attempts: 2"),
    ("after_away", "after", "value: away", ""),
    ("after_full", "after", "value: fill_disk", ""),
    ("disconnect", "disconnect", "media: source", "attempts: 1"),
    ("after_disconnect", "after", "value: disconnect", ""),
    ("after_killer", "after", "value: kill_parent", ""),
    ("overwrite", "overwrite", "media: source", "attempts: 9"),
    ("remove", "remove", "media: source", ""),
    ("process_tree", "hang_with_processes", "media: source", "timeout_s: 2"),
    ("modest_allocation", "allocate_memory", "media: source", "params: {gib: 0.5}"),
]


def _jobs() -> str:
    alone = [(m[0], m[0], "media: source", m[1]) for m in FAILURES]
    harmless = [(h, h, "media: source", "") for h in HARMLESS if h != "modest_allocation"]
    return "jobs:\n" + "".join(
        f"  {name}: {{run: 'segue_support.jobs:{code}', needs: {{{needs}}}, "
        f"writes: application/json, {extra}}}\n"
        for name, code, needs, extra in [*alone, *harmless, *OTHERS]
    )


class Runner:
    """One pool for all tests, and a new folder for the files of each test."""

    def __init__(self, folder: Path) -> None:
        self.trial = Trial(str(folder))
        self.pool = self.trial.pool(parse_graph(_jobs()))
        self._count = 0

    def run(self, *jobs: str, names: tuple[str, ...]) -> list[dict[str, Result]]:
        self._count += 1
        files = [self.trial.add(f"{self._count}/{name}") for name in names]
        return run_tasks(
            self.pool, [Task(task_id=n, media=m, run=jobs) for n, m in enumerate(files)]
        )

    def run_bad(self, job: str) -> Result:
        """Run a job on a bad file among good ones, which must succeed; return the bad result."""
        results = [r[job] for r in self.run(job, names=(*GOOD[:2], "bad", *GOOD[2:]))]
        bad = results.pop(2)
        assert [r.state for r in results] == [State.DONE] * len(GOOD)
        return bad


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("runner"))
    with runner.pool:
        yield runner


@pytest.mark.parametrize(("job", "extra", "kind", "text"), FAILURES, ids=[m[0] for m in FAILURES])
def test_a_failure_is_recorded_with_its_kind_and_other_files_are_done(
    runner: Runner, job: str, extra: str, kind: str, text: str
) -> None:
    bad = runner.run_bad(job)
    assert bad.state is State.FAILED
    assert bad.error is not None
    assert bad.error.kind == kind
    assert text in bad.error.message
    assert len(bad.error.message) <= 500


@pytest.mark.parametrize("job", HARMLESS)
def test_a_job_that_strains_its_process_without_failing_is_done(runner: Runner, job: str) -> None:
    assert runner.run_bad(job).state is State.DONE


def test_an_error_names_the_line_that_raised_it(runner: Runner) -> None:
    error = runner.run_bad("raise_error").error
    assert error is not None
    assert error.type == "TypeError"
    assert error.message.endswith(" in raise_error)")
    assert error.traceback is not None
    assert 'raise TypeError("a list is not a tempo")' in error.traceback
    assert error.traceback.splitlines()[1].endswith("in raise_error")


def test_a_crash_blocks_what_is_below_and_keeps_what_was_done(runner: Runner) -> None:
    jobs = ("first", "second", "third", "fourth", "beside")
    bad, good = runner.run(*jobs, names=("bad", "good"))
    assert [good[j].state for j in jobs] == [State.DONE] * 5
    states = [bad[j].state for j in jobs]
    assert states == [State.DONE, State.FAILED, State.BLOCKED, State.BLOCKED, State.DONE]
    assert runner.trial.read(bad["first"])
    for job in ("third", "fourth"):
        error = bad[job].error
        assert error is not None
        assert (error.kind, error.type, error.traceback) == ("blocked", "second", None)


def test_a_file_that_needs_more_space_than_is_free_blocks_what_is_below(runner: Runner) -> None:
    [results] = runner.run("first", "fill_disk", "after_full", names=("bad",))
    assert [r.state for r in results.values()] == [State.DONE, State.FAILED, State.BLOCKED]


def test_a_process_that_was_killed_from_outside_is_tried_once_more_alone(runner: Runner) -> None:
    value = json.loads(runner.trial.read(runner.run_bad("kill_itself_in_company")))
    assert value == {"beside": 0}


def test_a_job_that_kills_its_parent_costs_only_that_job(runner: Runner) -> None:
    jobs = ("first", "kill_parent", "after_killer", "beside")
    bad, *good = runner.run(*jobs, names=("bad", *GOOD))
    assert [bad[j].state for j in jobs] == [State.DONE, State.FAILED, State.BLOCKED, State.DONE]
    assert {r.state for results in good for r in results.values()} == {State.DONE}


def test_a_transient_error_is_retried_at_once(runner: Runner) -> None:
    [results] = runner.run("away_twice", names=("bad",))
    assert results["away_twice"].state is State.DONE


def test_a_transient_error_that_persists_requeues_the_job_and_all_below_it(runner: Runner) -> None:
    [results] = runner.run("first", "away", "after_away", names=("bad",))
    assert results["first"].state is State.DONE
    for job in ("away", "after_away"):
        assert results[job].state is State.QUEUED
        assert results[job].error is not None
        assert results[job].error.kind == Kind.UNAVAILABLE


def test_only_the_job_itself_has_the_traceback_of_its_error(runner: Runner) -> None:
    [results] = runner.run("disconnect", "after_disconnect", names=("bad",))
    errors = [result.error for result in results.values()]
    assert [error and error.kind for error in errors] == [Kind.UNAVAILABLE] * 2
    assert [bool(error and error.traceback) for error in errors] == [True, False]


@pytest.mark.parametrize(
    ("job", "kind"),
    [
        ("overwrite", Kind.SUPERSEDED),
        ("remove", Kind.SUPERSEDED),
    ],
)
def test_an_error_that_aborts_the_line_requeues_all_of_its_jobs(
    runner: Runner, job: str, kind: str
) -> None:
    [results] = runner.run(job, "first", names=("bad",))
    for result in results.values():
        assert result.state is State.QUEUED
        assert not result.artifacts
        assert result.error is not None
        assert result.error.kind == kind


def test_the_artifact_of_a_file_that_was_overwritten_is_not_written(runner: Runner) -> None:
    runner.run("overwrite", names=("bad",))
    folder = Path(runner.trial.artifacts, "overwrite")
    assert [p for p in folder.rglob("*") if p.is_file()] == []


def test_all_processes_of_a_job_are_killed_with_it(runner: Runner) -> None:
    bad = runner.run_bad("process_tree")
    assert bad.error is not None
    assert bad.error.kind == Kind.TIMEOUT
    [path] = Path(runner.trial.catalogue).rglob("*.processes")
    processes = [int(p) for p in path.read_text().split()]
    assert len(processes) == 2
    assert all(_has_exited(p) for p in processes)


def _has_exited(process: int, patience_s: float = 2.0) -> bool:
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        if not os.path.exists(f"/proc/{process}"):
            return True
        time.sleep(0.01)
    return False


def test_the_pool_still_works_after_all_these_failures(runner: Runner) -> None:
    pool: Pool = runner.pool
    assert pool.pending == 0
    [results] = runner.run("first", names=("good",))
    assert results["first"].state is State.DONE
