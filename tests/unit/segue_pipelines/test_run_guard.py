"""Whether a run is to stop: for one worker, for several on a machine, and elsewhere."""

from __future__ import annotations

import pytest

from segue.clock import utc_now
from segue.errors import ConfigurationError
from segue.ingest.control_reader import ControlReader
from segue.model.controls import cancel_run
from segue.model.failure_limit import FailureLimit
from segue.model.graph import parse_graph
from segue.model.media_file import MediaFile
from segue.model.outcome import Outcome, RunTotals, Status
from segue.model.settings import Settings
from segue_pipelines.backfill import build_run, execute
from segue_pipelines.options import parse_pipeline_options
from segue_pipelines.progress import ProgressWriter
from segue_pipelines.run_guard import RunGuard
from segue_support.ledger import MemoryLedger

MEDIA = MediaFile(uri="gs://b/a.wav", version="1", order=1)
LIMIT = FailureLimit(files=4)


def build_guard(ledger: MemoryLedger, **more) -> RunGuard:
    return RunGuard(run="run1", controls=ControlReader(ledger=ledger, every_s=0.0), **more)


def fail(guard: RunGuard, files: int, status: Status = Status.FAILED) -> None:
    for _ in range(files):
        guard.add(Outcome.from_status(MEDIA, ("a",), status))


def test_a_run_that_was_cancelled_stops_and_others_do_not():
    ledger = MemoryLedger()
    guard = build_guard(ledger)
    assert not guard.check()
    for run, is_stopped in (("run2", False), ("run1", True)):
        ledger.change_controls(
            lambda found, run=run: cancel_run(found, run, by=None, now=utc_now())
        )
        assert guard.check() is is_stopped


def test_only_failures_of_this_run_count(tmp_path):
    guard = build_guard(MemoryLedger(), limit=LIMIT, progress=str(tmp_path))
    fail(guard, 9, Status.FAILED_BEFORE)
    fail(guard, 9, Status.BLOCKED)
    fail(guard, 3)
    assert not guard.check()
    fail(guard, 1)
    assert guard.check()


def test_workers_on_one_machine_see_what_all_have_done(tmp_path):
    guard = build_guard(MemoryLedger(), limit=LIMIT, progress=str(tmp_path), workers=2)
    fail(guard, 4)
    assert not guard.check()  # what it has done itself is in the folder, too
    other = build_guard(MemoryLedger(), limit=LIMIT, progress=str(tmp_path), workers=2)
    writer = ProgressWriter(str(tmp_path))
    writer.add(RunTotals(files=9, tried_files=9, newly_failed_files=4))
    writer.flush()
    assert other.check()


def test_elsewhere_a_worker_that_reaches_its_share_tells_all_others():
    ledger = MemoryLedger()
    guard, other = (build_guard(ledger, limit=LIMIT, workers=2) for _ in range(2))
    fail(guard, 1)
    assert not guard.check()
    fail(guard, 1)
    assert guard.check()
    assert ledger.controls.cancelled["run1"].reason == "too many files have failed"
    assert other.check()


@pytest.mark.parametrize("limits", [{"rate": "1/s"}, {"max_failures": "1%"}])
def test_elsewhere_limits_need_the_number_of_workers(limits):
    graph = parse_graph(
        'jobs:\n  a: {run: "m:f", needs: {media: source}, writes: application/json}\n'
    )
    run = build_run(graph, Settings.load(), ("a",), prefix="gs://b/", **limits)
    options = parse_pipeline_options(["--runner", "PrismRunner"])
    with pytest.raises(ConfigurationError, match="set --max_num_workers"):
        execute(run, options)
