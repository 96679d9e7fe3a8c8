"""What the record of a backfill says of it, and which backfills leave one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError, TooManyFailures
from segue.model.criteria import Criteria
from segue.model.graph import Graph, parse_graph
from segue.model.run import RunKind, RunRecord, RunSelection, RunState, find_user, load_run
from segue.model.settings import Settings
from segue_pipelines import backfill
from segue_pipelines.backfill import BackfillRun, build_run, describe_run, execute

GRAPH = parse_graph(
    """
artifacts: artifacts
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
"""
)
PROBED = parse_graph(
    """
jobs:
  b: {run: "m:f", needs: {media: source}, writes: application/json}
  probe: {run: "m:f", needs: {media: source}, writes: application/json}
"""
)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
LOCAL = PipelineOptions([])
DATAFLOW = ("--runner=DataflowRunner", "--project=acme", "--region=europe-west1")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music").mkdir()
    return tmp_path


def build(jobs: str = "b", graph: Graph = GRAPH, **selected: object) -> BackfillRun:
    return build_run(graph, Settings.load(), jobs, **{"prefix": "music", **selected})


def list_records(folder) -> list[RunRecord]:
    store = connect_store(str(folder / "artifacts"))
    names = [found.name for found in store.list("_runs/")]
    return [load_run(store, name.removeprefix("_runs/").removesuffix(".json")) for name in names]


class Result:
    """The result of a pipeline, without metrics."""

    def __init__(self, *, has_job: bool) -> None:
        self.has_job = has_job

    def metrics(self) -> Result:
        return self

    def query(self, _filter: object) -> dict[str, list[object]]:
        return {"counters": []}


@pytest.fixture
def end(monkeypatch):
    """Return a function that sets how the pipeline ends, which does nothing."""

    def set_end(error: BaseException | None = None, *, has_job: bool = True) -> None:
        def run_pipeline(_build, _options, _record_job) -> Result:
            if error is not None:
                raise error
            return Result(has_job=has_job)

        monkeypatch.setattr(backfill, "run_pipeline", run_pipeline)

    set_end()
    return set_end


@pytest.mark.parametrize(
    ("selected", "selection"),
    [
        ({}, {"prefix": "file://{}/music/"}),
        ({"prefix": "gs://acme/a/"}, {"prefix": "gs://acme/a/"}),
        ({"limit": 3, "sample": 0.5}, {"prefix": "file://{}/music/", "limit": 3, "sample": 0.5}),
        ({"prefix": None, "uris": "list.txt"}, {"uris": "list.txt"}),
        ({"prefix": None, "uris": "caf\udce9"}, {"uris": "caf\\xe9"}),
        ({"prefix": None, "from_ledger": "stale"}, {"from_ledger": "stale"}),
        (
            {"criteria": Criteria(match=("*.wav",), tags={"artist": ("q*",)}), "graph": PROBED},
            {"prefix": "file://{}/music/", "match": ("*.wav",), "tags": {"artist": ("q*",)}},
        ),
    ],
    ids=ascii,
)
def test_the_record_tells_which_files_were_selected(folder, selected, selection):
    if "prefix" in selection:
        selection["prefix"] = selection["prefix"].format(folder)
    assert describe_run(build(**selected), LOCAL).selection == RunSelection(**selection)


def test_the_record_tells_what_was_wanted_and_of_whom(folder, end):
    run = build(force=True, retry_failed=True)
    execute(run, LOCAL)
    [record] = list_records(folder)
    assert (record.kind, record.jobs) == (RunKind.BACKFILL, ("b",))
    assert (record.force, record.retry, record.ping) == (True, True, False)
    assert (record.who, record.runner) == (find_user(), None)
    assert record.state is RunState.DONE


def test_each_run_has_a_record_and_its_id_may_be_given(folder, end):
    run = build()
    execute(run, LOCAL)
    execute(run, LOCAL)
    given_id = "20260102T030405.000000Z-0a1b2c3d"
    execute(backfill.replace(run, id=given_id), LOCAL)
    ids = [record.id for record in list_records(folder)]
    assert len(ids) == 3
    assert given_id in ids


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (TooManyFailures("the first 200 files all failed"), RunState.FAILED),
        (KeyboardInterrupt(), RunState.INTERRUPTED),
    ],
)
def test_the_record_tells_what_stopped_a_run(folder, end, error, state):
    end(error)
    with pytest.raises(type(error)):
        execute(build(), LOCAL)
    assert [record.state for record in list_records(folder)] == [state]


@pytest.mark.parametrize("error", [None, TooManyFailures("all failed")])
def test_a_dry_run_leaves_no_record(folder, end, error):
    end(error)
    if error is None:
        execute(build(dry_run=True), LOCAL)
    else:
        with pytest.raises(TooManyFailures):
            execute(build(dry_run=True), LOCAL)
    assert not (folder / "artifacts").exists()


def test_a_run_that_cannot_begin_leaves_no_record(folder, end):
    (folder / "artifacts").write_text("in the way")
    with pytest.raises(Exception, match="artifacts"):
        execute(build(), LOCAL)
    assert (folder / "artifacts").read_text() == "in the way"


def test_a_run_that_a_template_has_launched_goes_on_as_its_account(folder, end):
    end(has_job=False)
    account = "segue-backfill@acme.iam.gserviceaccount.com"
    template = (f"--service_account_email={account}", "--template_location=gs://acme/job.json")
    totals = execute(build(), PipelineOptions([*DATAFLOW, *template]))
    assert totals.files == 0
    [record] = list_records(folder)
    assert (record.state, record.ended_at) == (RunState.RUNNING, None)
    assert (record.who, record.runner) == (account, "DataflowRunner")


def test_a_run_that_its_launcher_waits_for_is_of_the_launchers_user(folder, end):
    execute(build(), PipelineOptions([*DATAFLOW, "--service_account_email=worker@acme"]))
    [record] = list_records(folder)
    assert (record.state, record.who) == (RunState.DONE, find_user())


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        ({"criteria": Criteria(min_duration_s=3)}, "which this graph has not; add to its jobs"),
        ({"criteria": Criteria(match=("",))}, "'' is not a pattern or tag"),
        (
            {"criteria": Criteria(newer_than=NOW), "prefix": None, "from_ledger": "all"},
            "--newer-than excludes --from-ledger",
        ),
    ],
)
def test_criteria_that_nothing_can_decide_are_refused(selected, message):
    with pytest.raises(ConfigurationError, match=message):
        build(**selected)
