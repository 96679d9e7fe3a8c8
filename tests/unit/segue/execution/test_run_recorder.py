"""The record of a backfill says how far it came, whatever ended it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from segue.adapters.connect import connect_store
from segue.adapters.folder import FolderStore
from segue.errors import (
    ConfigurationError,
    DiskFull,
    RunCancelled,
    TooManyFailures,
    Unavailable,
)
from segue.execution.run_recorder import RunRecorder, count
from segue.log import LOGGER
from segue.model.outcome import RunTotals, Status
from segue.model.passed_over import PassedOver
from segue.model.run import (
    MAX_TEXT,
    RunCounts,
    RunKind,
    RunRecord,
    RunSelection,
    RunState,
    save_run,
)
from segue.model.run import load_run as load

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
START = RunRecord(
    id="20260102T030405.000000Z-0a1b2c3d",
    kind=RunKind.BACKFILL,
    state=RunState.RUNNING,
    who="ann@laptop",
    started_at=NOW,
    selection=RunSelection(prefix="file:///music/"),
    jobs=("beats",),
)
TOTALS = RunTotals(
    files=3,
    failed_files=1,
    jobs={"beats": {Status.DONE: 2, Status.FAILED: 1}},
    failures={"beats": {"timeout": 1}},
    cpu_seconds={"beats": 2.5},
    left_out={"missing": 1},
    left_out_names={"missing": ["file:///music/gone.wav"]},
    passed_over=PassedOver(not_included={".txt": 2}, not_selected={"match": 1}),
)
COUNTS = RunCounts(
    files=3,
    failed_files=1,
    jobs={"beats": {"done": 2, "failed": 1}},
    left_out={"missing": 1},
    not_included={".txt": 2},
    not_selected={"match": 1},
    failures={"beats": {"timeout": 1}},
    cpu_seconds={"beats": 2.5},
)
PATIENCE_S = 30


class Ticking:
    """A clock that is a second later each time it is looked at."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class Place:
    """A folder for artifacts, and what recorders leave there."""

    def __init__(self, folder) -> None:
        self.location = str(folder)
        self.store = connect_store(self.location)

    def record(self, run=START, *, counts=lambda: COUNTS, update_s=3600.0, **more):
        return RunRecorder(self.location, run, counts, update_s=update_s, clock=Ticking(), **more)

    @property
    def run(self) -> RunRecord:
        return load(self.store, START.id)


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path / "artifacts")


@pytest.fixture
def logged(caplog, monkeypatch):
    """Return a function that returns the lines logged so far, and their levels."""
    monkeypatch.setattr(LOGGER, "propagate", True)
    return lambda: [(r.levelname, r.segue) for r in caplog.records if hasattr(r, "segue")]


def change(**changes: object) -> RunRecord:
    return msgspec.structs.replace(START, **changes)


ELSEWHERE = change(runner="DataflowRunner")


def test_a_run_is_recorded_while_it_runs_and_at_its_end(place):
    with place.record() as recorder:
        assert place.run == change(updated_at=NOW + timedelta(seconds=1))
        recorder.counts = COUNTS
    run = place.run
    assert (run.state, run.counts, run.error) == (RunState.DONE, COUNTS, None)
    assert run.ended_at is not None
    assert run.started_at < run.ended_at <= run.updated_at
    same = {"state": RunState.RUNNING, "counts": RunCounts(), "ended_at": None, "updated_at": None}
    assert msgspec.structs.replace(run, **same) == START


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (TooManyFailures("the first 200 files all failed"), "failed", "the first 200 files"),
        (Unavailable("no route"), "failed", "no route"),
        (ValueError(), "failed", "ValueError"),
        (ValueError("caf\udce9 " * MAX_TEXT), "failed", "caf\\xe9 "),
        (KeyboardInterrupt(), "interrupted", None),
        (SystemExit(1), "interrupted", None),
        (RunCancelled("by bob@desk", "bob@desk"), "cancelled", None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_ends_a_run_early_is_recorded_with_what_was_done_by_then(place, error, state, text):
    with pytest.raises(type(error)), place.record():
        raise error
    run = place.run
    assert (run.state, run.counts) == (state, COUNTS)
    assert run.ended_at is not None
    assert (run.error or "").startswith(text or "")
    assert (run.error is None) is (text is None)
    assert len(run.error or "") <= MAX_TEXT


def test_the_counts_of_a_record_are_those_of_the_run():
    assert count(TOTALS) == COUNTS
    assert count(RunTotals(not_started=4)) == RunCounts(not_started=4)


def test_it_is_recorded_who_cancelled_a_run(place):
    with pytest.raises(RunCancelled), place.record():
        raise RunCancelled("by bob@desk", "bob@desk")
    assert place.run.cancelled_by == "bob@desk"


def test_a_run_elsewhere_that_was_cancelled_meanwhile_stays_cancelled(place):
    def follow(recorder: RunRecorder) -> None:
        recorder.record_job("projects/acme/locations/here/jobs/1")
        assert place.run.runner_job == "projects/acme/locations/here/jobs/1"
        cancelled = {"state": RunState.CANCELLED, "cancelled_by": "bob@desk"}
        save_run(place.store, msgspec.structs.replace(place.run, **cancelled), replace=True)
        raise RuntimeError("the job was cancelled")

    with pytest.raises(RuntimeError), place.record(ELSEWHERE) as recorder:
        follow(recorder)
    assert (place.run.state, place.run.cancelled_by) == (RunState.CANCELLED, "bob@desk")
    assert place.run.error is None


def test_an_optional_record_that_cannot_be_written_stops_nothing(place, monkeypatch, logged):
    fail_to_write(monkeypatch, ConfigurationError("read-only"))
    with RunRecorder(place.location, START, RunCounts, is_optional=True) as recorder:
        recorder.counts = COUNTS
    assert [level for level, _ in logged()] == ["WARNING", "WARNING"]


def test_while_it_runs_the_record_has_the_counts_so_far(place):
    done = 0
    written = threading.Event()

    def read_counts() -> RunCounts:
        if done and place.run.counts.files == done:
            written.set()
        return RunCounts(files=done)

    with place.record(counts=read_counts, update_s=0.01) as recorder:
        begun = place.run.updated_at
        done = 7
        assert written.wait(PATIENCE_S)
        run = place.run
        assert (run.state, run.counts, run.ended_at) == (RunState.RUNNING, RunCounts(files=7), None)
        assert run.updated_at > begun
        recorder.counts = COUNTS
    assert (place.run.state, place.run.counts) == (RunState.DONE, COUNTS)


def test_nothing_is_written_after_the_end(place):
    threads = set(threading.enumerate())
    with place.record(update_s=0.001) as recorder:
        assert set(threading.enumerate()) - threads
        recorder.counts = COUNTS
    assert set(threading.enumerate()) - threads == set()
    assert place.run.state is RunState.DONE


def test_whoever_observes_a_run_sees_its_counts_before_they_are_written(place):
    seen = threading.Event()

    def observe(run: RunRecord) -> None:
        if run.state is RunState.RUNNING and run.counts == COUNTS:
            seen.set()

    with place.record(observe=observe):
        assert seen.wait(PATIENCE_S)
        assert place.run.counts == RunCounts()


def test_a_run_elsewhere_is_recorded_at_its_start_and_at_its_end(place):
    with place.record(ELSEWHERE, update_s=0.001) as recorder:
        assert place.run == ELSEWHERE
        recorder.counts = COUNTS
    assert (place.run.state, place.run.counts) == (RunState.DONE, COUNTS)
    assert place.run.updated_at is None


def test_a_run_that_goes_on_elsewhere_is_running(place):
    with place.record(ELSEWHERE):
        pass  # as in a template's launcher
    assert place.run == ELSEWHERE
    with pytest.raises(KeyboardInterrupt), place.record(ELSEWHERE):
        raise KeyboardInterrupt  # only the launcher has stopped
    assert place.run == ELSEWHERE


def test_a_run_elsewhere_that_fails_has_failed(place):
    with pytest.raises(RuntimeError), place.record(ELSEWHERE):
        raise RuntimeError("the job was cancelled")
    assert (place.run.state, place.run.error) == (RunState.FAILED, "the job was cancelled")


def fail_to_write(monkeypatch, error: Exception) -> list[str]:
    """Let no store write any more; returns the names that somebody has tried to write."""
    tried = []

    def create(_store, name, *_args, **_kwargs):
        tried.append(name)
        raise error

    monkeypatch.setattr(FolderStore, "create", create)
    return tried


@pytest.mark.parametrize("error", [ConfigurationError("read-only"), DiskFull("no room")])
def test_a_run_does_not_start_where_nothing_can_be_written(place, monkeypatch, error):
    fail_to_write(monkeypatch, error)
    threads = set(threading.enumerate())
    with pytest.raises(type(error)), place.record():
        pytest.fail("it has started")
    assert set(threading.enumerate()) - threads == set()


def test_a_run_elsewhere_starts_wherever_its_launcher_may_write(place, monkeypatch, logged):
    fail_to_write(monkeypatch, ConfigurationError("access is denied"))
    with place.record(ELSEWHERE) as recorder:
        recorder.counts = COUNTS
    line = {"severity": "WARNING", "action": "misconfigured", "run": START.id}
    assert logged() == 2 * [("WARNING", {**line, "error": "access is denied"})]


def test_a_record_that_cannot_be_written_at_the_end_costs_a_warning(place, monkeypatch, logged):
    with place.record() as recorder:
        fail_to_write(monkeypatch, Unavailable("no route"))
        recorder.counts = COUNTS
    line = {"severity": "WARNING", "action": "unavailable", "run": START.id, "error": "no route"}
    assert logged() == [("WARNING", line)]
    assert place.run.state is RunState.RUNNING


def test_what_ended_a_run_is_not_hidden_by_a_record_that_cannot_be_written(place, monkeypatch):
    def run() -> None:
        with place.record():
            fail_to_write(monkeypatch, Unavailable("no route"))
            raise TooManyFailures("the first 200 files all failed")

    with pytest.raises(TooManyFailures):
        run()


def test_an_outage_costs_one_warning_and_the_next_one_another(place, monkeypatch, logged):
    with place.record(update_s=0.001) as recorder:
        for outage in (1, 2):
            with monkeypatch.context() as broken:
                tried = fail_to_write(broken, Unavailable("no route"))
                wait_until(lambda tried=tried: len(tried) >= 5)
            before = place.run.updated_at
            wait_until(lambda before=before: place.run.updated_at > before)
            assert len(logged()) == outage
        recorder.counts = COUNTS
    assert place.run.state is RunState.DONE
    assert len(logged()) == 2


def wait_until(holds) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE_S * 1000):
        if holds():
            return
        pause.wait(0.001)
    pytest.fail("it has not come to that")
