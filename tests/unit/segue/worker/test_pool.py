"""Whatever a job does, it costs that job of that file, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.errors import Kind
from segue.model.graph import parse
from segue.model.ledger import Result
from segue.model.record import State
from segue.testing.trial import Trial, finish
from segue.worker.pool import Pool
from segue.worker.task import Task

GOOD = ("good-0", "good-1", "good-2", "good-3")
QUICK = "timeout_s: 0.3"

# One pool for all: it must get over each of these, and be none the worse.
MISDEEDS = [
    (
        "raise_error",
        "",
        Kind.JOB_RAISED,
        "TypeError: a list is not a tempo (segue_support/jobs.py:",
    ),
    ("recurse", "", Kind.JOB_RAISED, "RecursionError: maximum recursion depth exceeded"),
    ("refuse", "", Kind.CORRUPT_MEDIA, ": it is bad"),
    ("leave", "", Kind.CRASHED, "the job called sys.exit(3)"),
    ("leave_hard", "", Kind.CRASHED, "ended by exit code 3"),
    ("segfault", "", Kind.CRASHED, "killed by signal 11 (SIGSEGV)"),
    ("kill_itself", "", Kind.CRASHED, "signal 9 (SIGKILL), not by Segue: most likely the kernel"),
    ("hang", QUICK, Kind.TIMEOUT, "its timeout_s is 0.3"),
    ("hang_deaf", QUICK, Kind.TIMEOUT, "its timeout_s is 0.3"),
    (
        "eat_memory",
        "params: {gib: 0.5}, resources: {memory_gib: 0.25}",
        Kind.OUT_OF_MEMORY,
        "it may add 0.25 GiB, and wanted more; raise its resources.memory_gib",
    ),
    ("return_object", "", Kind.BAD_OUTPUT, "object"),
    ("return_coroutine", "", Kind.BAD_OUTPUT, "coroutine"),
]
HARMLESS = ["close_handles", "fork", "modest_eater"]
OTHERS = [
    ("first", "fine", "media: source", ""),
    ("second", "segfault_after", "value: first, media: source", ""),
    ("third", "after", "value: second", ""),
    ("fourth", "after", "value: third", ""),
    ("beside", "after", "value: first", ""),
    ("away_twice", "be_unavailable", "media: source", "params: {times: 2}, attempts: 3"),
    ("away", "be_unavailable", "media: source", "params: {times: 9}, attempts: 2"),
    ("after_away", "after", "value: away", ""),
    ("full", "fill_disk", "media: source", "attempts: 9"),
    ("overwrite", "overwrite", "media: source", "attempts: 9"),
    ("remove", "remove", "media: source", ""),
    ("family", "hang_with_family", "media: source", "timeout_s: 2"),
    ("modest_eater", "eat_memory", "media: source", "params: {gib: 0.5}"),
]


def _jobs() -> str:
    alone = [(m[0], m[0], "media: source", m[1]) for m in MISDEEDS]
    harmless = [(h, h, "media: source", "") for h in HARMLESS if h != "modest_eater"]
    return "jobs:\n" + "".join(
        f"  {name}: {{run: 'segue_support.jobs:{code}', needs: {{{needs}}}, "
        f"writes: application/json, {extra}}}\n"
        for name, code, needs, extra in [*alone, *harmless, *OTHERS]
    )


class Ward:
    """The pool, and a new place for the files of each test."""

    def __init__(self, folder: Path) -> None:
        self.trial = Trial(str(folder))
        self.pool = self.trial.pool(parse(_jobs()))
        self._count = 0

    def run(self, *jobs: str, names: tuple[str, ...]) -> list[dict[str, Result]]:
        self._count += 1
        files = [self.trial.add(f"{self._count}/{name}") for name in names]
        return finish(self.pool, [Task(ticket=n, media=m, run=jobs) for n, m in enumerate(files)])

    def run_bad(self, job: str) -> Result:
        """Run a job on a bad file among good ones, which are done; return the bad one's result."""
        results = [r[job] for r in self.run(job, names=(*GOOD[:2], "bad", *GOOD[2:]))]
        bad = results.pop(2)
        assert [r.state for r in results] == [State.DONE] * len(GOOD)
        return bad


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    ward = Ward(tmp_path_factory.mktemp("ward"))
    with ward.pool:
        yield ward


@pytest.mark.parametrize(("job", "extra", "kind", "said"), MISDEEDS, ids=[m[0] for m in MISDEEDS])
def test_a_misdeed_is_recorded_as_what_it_is_and_other_files_are_done(
    ward: Ward, job: str, extra: str, kind: str, said: str
) -> None:
    bad = ward.run_bad(job)
    assert bad.state is State.FAILED
    assert bad.error is not None
    assert bad.error.kind == kind
    assert said in bad.error.message
    assert len(bad.error.message) <= 500


@pytest.mark.parametrize("job", HARMLESS)
def test_a_job_that_only_tries_the_process_is_done(ward: Ward, job: str) -> None:
    assert ward.run_bad(job).state is State.DONE


def test_an_error_names_the_line_that_raised_it(ward: Ward) -> None:
    error = ward.run_bad("raise_error").error
    assert error is not None
    assert error.type == "TypeError"
    assert error.message.endswith(" in raise_error)")


def test_a_crash_blocks_what_is_below_and_keeps_what_was_done(ward: Ward) -> None:
    jobs = ("first", "second", "third", "fourth", "beside")
    bad, good = ward.run(*jobs, names=("bad", "good"))
    assert [good[j].state for j in jobs] == [State.DONE] * 5
    states = [bad[j].state for j in jobs]
    assert states == [State.DONE, State.FAILED, State.BLOCKED, State.BLOCKED, State.DONE]
    assert ward.trial.read(bad["first"])
    for job in ("third", "fourth"):
        error = bad[job].error
        assert error is not None
        assert (error.kind, error.type) == ("blocked", "second")


def test_a_transient_error_is_tried_again_at_once(ward: Ward) -> None:
    [found] = ward.run("away_twice", names=("bad",))
    assert found["away_twice"].state is State.DONE


def test_a_transient_error_that_stays_gives_the_job_back_with_all_below_it(ward: Ward) -> None:
    [found] = ward.run("first", "away", "after_away", names=("bad",))
    assert found["first"].state is State.DONE
    for job in ("away", "after_away"):
        assert found[job].state is State.QUEUED
        assert found[job].error is not None
        assert found[job].error.kind == Kind.UNAVAILABLE


@pytest.mark.parametrize(
    ("job", "kind"),
    [
        ("full", Kind.DISK_FULL),
        ("overwrite", Kind.SUPERSEDED),
        ("remove", Kind.SUPERSEDED),
    ],
)
def test_what_makes_the_whole_line_vain_gives_all_of_it_back(
    ward: Ward, job: str, kind: str
) -> None:
    [found] = ward.run(job, "first", names=("bad",))
    for result in found.values():
        assert result.state is State.QUEUED
        assert result.artifact is None
        assert result.error is not None
        assert result.error.kind == kind


def test_the_artifact_of_a_file_that_was_overwritten_is_not_written(ward: Ward) -> None:
    ward.run("overwrite", names=("bad",))
    folder = Path(ward.trial.artifacts, "overwrite")
    assert [p for p in folder.rglob("*") if p.is_file()] == []


def test_all_processes_of_a_job_die_with_it(ward: Ward) -> None:
    bad = ward.run_bad("family")
    assert bad.error is not None
    assert bad.error.kind == Kind.TIMEOUT
    [path] = Path(ward.trial.catalogue).rglob("*.processes")
    processes = [int(p) for p in path.read_text().split()]
    assert len(processes) == 2
    assert all(_gone(p) for p in processes)


def _gone(process: int, patience_s: float = 2.0) -> bool:
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        if not os.path.exists(f"/proc/{process}"):
            return True
        time.sleep(0.01)
    return False


def test_the_pool_is_as_it_was_after_all_this(ward: Ward) -> None:
    pool: Pool = ward.pool
    assert pool.pending == 0
    [found] = ward.run("first", names=("good",))
    assert found["first"].state is State.DONE
    assert len(pool._links) <= pool.processes
