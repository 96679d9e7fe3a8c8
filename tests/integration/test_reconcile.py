"""The reconcile pipeline: in parallel, killed half-way, and beside live arrivals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apache_beam as beam
import pytest

from segue.adapters.connect import connect_ledger, connect_queue
from segue.errors import Unavailable
from segue.ingest.catalogue import MediaFilter
from segue.maintenance.reconcile import DiscrepancyKind
from segue.model.graph import read_graph
from segue.model.ledger import Change, Query
from segue.model.media_file import MediaFile, parse_prefix
from segue.model.message import decode_message
from segue.model.queue import list_subscriptions
from segue.model.transitions import arrive
from segue_pipelines.options import parse_pipeline_options
from segue_pipelines.reconcile import ReconcileRun, build, execute

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
GRAPH = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  after: {run: "segue_support.jobs:after", needs: {value: fine}, writes: application/json}
  beside: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""
NAMES = ["a.wav", "a/deep/er.wav", "a b.wav", "ab.wav", "ünì/ö.wav", "[x].wav", "\U0001f3b5.wav"]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    for name in NAMES:
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    return tmp_path


def run_of(folder: Path, **more) -> ReconcileRun:
    return ReconcileRun(
        graph=read_graph(str(folder / "jobs.yaml"), {}),
        prefix=parse_prefix(str(folder / "music")),
        media_filter=MediaFilter(include=("*.wav",)),
        ledger=f"sqlite:///{folder}/ledger.db",
        queue=f"sqlite:///{folder}/queue.db",
        **{"started_at": datetime.now(UTC), "grace": timedelta(hours=1), "dry_run": False, **more},
    )


def pull_all(folder: Path) -> list[tuple[str, str]]:
    queue = connect_queue(f"sqlite:///{folder}/queue.db")
    graph = read_graph(str(folder / "jobs.yaml"), {})
    names = [s.name for s in list_subscriptions(graph, graph.pipelines)]
    found = queue.pull(names, limit=10_000)
    queue.acknowledge(found)
    queue.close()
    return sorted((decode_message(one.data).uri, one.subscription) for one in found)


def known(folder: Path) -> dict[str, datetime | None]:
    ledger = connect_ledger(f"sqlite:///{folder}/ledger.db")
    found = {r.uri: r.deleted_at for r in ledger.find(Query(), limit=10_000)}
    ledger.close()
    return found


def uris(folder: Path, names=NAMES) -> list[str]:
    return sorted(f"file://{folder}/music/{name}" for name in names)


MODES = [(), ("--direct_running_mode", "multi_threading", "--direct_num_workers", "2")]


@pytest.mark.parametrize("mode", MODES, ids=["alone", "two workers"])
def test_a_catalogue_without_events_arrives_at_once_and_only_once(folder, mode):
    found = execute(run_of(folder), parse_pipeline_options(mode))
    assert (found.listed, found.recorded, dict(found.files)) == (
        7,
        0,
        {DiscrepancyKind.UNRECORDED: 7},
    )
    assert list(known(folder)) == uris(folder)
    assert pull_all(folder) == [
        (uri, name) for uri in uris(folder) for name in ("beside.source", "fine.source")
    ]
    again = execute(run_of(folder), parse_pipeline_options(mode))
    assert (again.listed, again.recorded, again.files.total()) == (7, 7, 0)
    assert pull_all(folder) == []


@pytest.mark.parametrize("mode", MODES, ids=["alone", "two workers"])
def test_deleted_files_are_found_anywhere(folder, mode):
    execute(run_of(folder), parse_pipeline_options())
    gone = ["a.wav", "a/deep/er.wav", "\U0001f3b5.wav"]
    for name in gone:
        (folder / "music" / name).unlink()
    found = execute(run_of(folder), parse_pipeline_options(mode))
    assert dict(found.files) == {DiscrepancyKind.GONE: 3}
    assert found.samples[DiscrepancyKind.GONE]
    assert set(found.samples[DiscrepancyKind.GONE]) <= set(uris(folder, gone))
    assert [uri for uri, deleted_at in known(folder).items() if deleted_at] == uris(folder, gone)
    assert execute(run_of(folder), parse_pipeline_options(mode)).files.total() == 0


def test_more_than_a_page_and_a_chunk_of_files_are_compared(folder):
    for number in range(2500):
        (folder / f"music/{number:05d}.wav").touch()
    found = execute(run_of(folder), parse_pipeline_options())
    assert (found.listed, found.files.total()) == (2507, 2507)
    for number in range(0, 2500, 2):
        (folder / f"music/{number:05d}.wav").unlink()
    found = execute(run_of(folder), parse_pipeline_options())
    assert dict(found.files) == {DiscrepancyKind.GONE: 1250}
    assert (found.listed, found.recorded, len(found.samples[DiscrepancyKind.GONE])) == (
        1257,
        2507,
        5,
    )
    assert execute(run_of(folder), parse_pipeline_options()).files.total() == 0


def test_another_prefix_of_the_ledger_is_not_compared(folder):
    elsewhere = MediaFile(uri=f"file://{folder}/music2/gone.wav", version="1", order=1)
    ledger = connect_ledger(f"sqlite:///{folder}/ledger.db")
    early = datetime.now(UTC) - timedelta(days=1)
    ledger.change([Change(uri=elsewhere.uri, transition=lambda r: arrive(r, elsewhere, early))])
    ledger.close()
    execute(run_of(folder), parse_pipeline_options())
    assert known(folder)[elsewhere.uri] is None


def test_what_arrived_since_the_run_began_is_left_alone(folder):
    """The file was uploaded after the listing, and recorded before the ledger was read."""
    run = run_of(folder)
    late = MediaFile(uri=f"{run.prefix}late.wav", version="1", order=1)
    ledger = connect_ledger(run.ledger)
    ledger.change([Change(uri=late.uri, transition=lambda r: arrive(r, late, datetime.now(UTC)))])
    ledger.close()
    execute(run, parse_pipeline_options())
    assert known(folder)[late.uri] is None


def test_an_error_of_the_stack_is_raised_and_the_next_run_notifies_all(folder, monkeypatch):
    class Away:
        def publish(self, envelopes):
            raise Unavailable("the queue is away; try again later")

        def close(self):
            """Nothing to close."""

    with monkeypatch.context() as patched:
        patched.setattr("segue_pipelines.reconcile.connect_queue", lambda _url, _graph: Away())
        with pytest.raises(Unavailable, match="the queue is away"):
            execute(run_of(folder), parse_pipeline_options())
    recorded = list(known(folder))
    assert recorded  # the ledger comes first
    execute(run_of(folder, grace=timedelta()), parse_pipeline_options())
    assert {uri for uri, _ in pull_all(folder)} == set(uris(folder))


def test_killed_half_way_and_run_again_it_notifies_all_jobs(folder):
    for number in range(1500):
        (folder / f"music/{number:05d}.wav").touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    stack = ("--ledger", "sqlite:///ledger.db", "--queue", "sqlite:///queue.db")
    command = [SEGUE, "reconcile", "--prefix", "music", *stack, "--apply", "--yes", "--json"]
    first = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE)
    queue = connect_queue(f"sqlite:///{folder}/queue.db")
    while first.poll() is None and not sum(queue.measure_depth(("fine.source",)).values()):
        queue.pull(("none.source",), limit=1, wait_s=0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    queue.close()
    second = subprocess.run(
        [*command, "--older-than", "0s"],
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert json.loads(second.stdout)["listed"] == 1507
    assert len({uri for uri, _ in pull_all(folder)}) == 1507


def test_a_store_that_cannot_be_listed_is_not_empty(folder, monkeypatch):
    execute(run_of(folder), parse_pipeline_options())

    def refused(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("segue.adapters.folder.os.scandir", refused)
    with pytest.raises(Exception, match="is not readable"):
        execute(run_of(folder, allow_empty=True), parse_pipeline_options())
    assert not any(known(folder).values())


def test_the_steps_have_labels_that_stay(folder):
    labels = {}
    for spread in (False, True):
        pipeline = beam.Pipeline()
        build(pipeline, run_of(folder), spread=spread)
        proto = pipeline.to_runner_api()
        (root,) = proto.root_transform_ids
        steps = proto.components.transforms[root].subtransforms
        labels[spread] = [proto.components.transforms[s].unique_name for s in steps]
    assert labels[False] == ["Start", "Split prefix", "Compare", "Repair"]
    assert [step for step in labels[True] if step not in labels[False]] == [
        "Spread parts",
        "Spread discrepancies",
    ]


def test_a_folder_that_cannot_be_read_is_left_out_and_its_files_are_not_gone(folder, monkeypatch):
    execute(run_of(folder), parse_pipeline_options())
    hidden = str(folder / "music/a")
    scan, look = os.scandir, os.stat

    def refuse(call, path, *arguments, **options):
        if not isinstance(path, int) and os.fspath(path).startswith(hidden):
            raise PermissionError(13, "Permission denied", path)
        return call(path, *arguments, **options)

    monkeypatch.setattr(os, "scandir", lambda path=".": refuse(scan, path))
    monkeypatch.setattr(os, "stat", lambda path, *a, **o: refuse(look, path, *a, **o))
    found = execute(run_of(folder), parse_pipeline_options())
    assert found.left_out == {"unreadable": 1}
    assert found.left_out_names == {"unreadable": [f"file://{hidden}/"]}
    assert not found.files
    assert found.listed < found.recorded


def test_a_prefix_does_not_reach_into_a_folder_beside_its_own(folder):
    for name in ("music-private/a.wav", "music.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"sound")
    run = replace(run_of(folder), prefix=f"file://{folder}/music")
    found = execute(run, parse_pipeline_options())
    assert found.files == {DiscrepancyKind.UNRECORDED: 7}
    assert all("/music/" in uri for uri in known(folder))


def test_names_that_are_not_text_are_left_out_and_counted(folder):
    os.close(os.open(os.fsencode(folder / "music") + b"/\xff.wav", os.O_CREAT))
    found = execute(run_of(folder, dry_run=True), parse_pipeline_options())
    assert (found.listed, found.left_out) == (7, {"not_utf8": 1})
