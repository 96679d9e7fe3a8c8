"""Files that are probed first, in a run that is stopped: each ends once, or is not started."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from segue.execution.engine import Engine
from segue.execution.pace import Pace
from segue.execution.work import Run
from segue.ingest.probe_filter import ProbeFilter
from segue.model.artifact import build_artifact_name, compute_checksum
from segue.model.criteria import Criteria, Unselected
from segue.model.graph import parse_graph
from segue.model.media_file import MediaFile
from segue.model.outcome import Outcome, RunTotals, Status
from segue.model.record import State
from segue.model.transitions import Result
from segue.worker.protocol import Task
from segue_pipelines.probe_stage import ProbeStage
from segue_support.recording_pool import RecordingPool
from segue_support.simulator.store import MemoryStore
from segue_support.stream import Clock, CountingLedger, is_lost

GRAPH = parse_graph(
    """
jobs:
  probe: {run: "segue.features.headers:probe", needs: {media: source}, writes: application/json}
  beats: {run: "m:f", needs: {media: source}, writes: application/json}
"""
)
FILES = [MediaFile(uri=f"gs://b/{n:02}.wav", version="1", order=1) for n in range(20)]
SHORT = {media.uri for media in FILES[::5]}  # these are not selected


class Time:
    """A clock that moves only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Stage:
    """A probe stage, whose files are done at once by a pool without processes."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.store = MemoryStore("gs://o")
        self.pool = RecordingPool(self.answer, processes=1)
        self.unselected: Counter[Unselected] = Counter()
        self.left = RunTotals()
        ledger = CountingLedger()
        self.engine = Engine(
            graph=GRAPH,
            ledger=ledger,
            pool=self.pool,
            artifacts=self.store,
            clock=Clock(),
            owner=lambda: "me",
            lost=is_lost,
            pace=pace,
        )
        self.stage = ProbeStage(
            engine=self.engine,
            ledger=ledger,
            run=Run(id="run1", targets=("probe", "beats")),
            probes=ProbeFilter(GRAPH, self.store, Criteria(min_duration_s=5)),
            unselect=lambda reason: self.unselected.update([reason]),
            leave=self.left.merge,
        )

    def answer(self, task: Task) -> tuple[Result, ...]:
        return tuple(self.write(task, job) for job in task.run)

    def write(self, task: Task, job: str) -> Result:
        media = task.media
        data = json.dumps({"duration_s": 1 if media.uri in SHORT else 9}).encode()
        fingerprint = GRAPH.fingerprints[job]
        name = build_artifact_name(job, fingerprint, media.name, media.version, "json")
        self.store.create(name, data, content_type="application/json", metadata={})
        artifacts = {name: compute_checksum(data)}
        return Result(job=job, state=State.DONE, artifacts=artifacts, cpu_seconds=1.0)

    def run(self, stop_after: int | None) -> list[Outcome]:
        """Work to the end; withdraw before each step from some number on, as a run does."""
        self.stage.add(FILES)
        ended: list[Outcome] = []
        steps = 0
        while self.engine.has_work:
            if stop_after is not None and steps >= stop_after:
                self.stage.withdraw()
            ended += [one for one in self.stage.step(0.25) if isinstance(one, Outcome)]
            steps += 1
        return ended


def test_each_file_that_is_selected_ends_once_with_all_jobs():
    stage = Stage()
    ended = stage.run(None)
    assert sorted(outcome.media.uri for outcome in ended) == [media.uri for media in FILES]
    assert stage.unselected == {Unselected.DURATION: len(SHORT)}
    assert stage.left == RunTotals()


def test_a_file_that_is_probed_first_counts_once_for_the_rate():
    time = Time()
    stage = Stage(Pace(rate_per_s=2.0, clock_s=lambda: time.now_s, sleep=time.sleep))
    assert len(stage.run(None)) == len(FILES)
    assert len(stage.pool.tasks) == 2 * len(FILES) - len(SHORT)
    assert time.now_s == pytest.approx((len(FILES) - 1) / 2.0)


@pytest.mark.parametrize("stop_after", range(12))
def test_a_run_that_is_stopped_while_it_probes_ends_each_file_once_or_counts_it_as_not_started(
    stop_after,
):
    stage = Stage()
    ended = stage.run(stop_after)
    assert len({outcome.media.uri for outcome in ended}) == len(ended)
    assert len(ended) + stage.left.not_started == len(FILES)
    assert stage.left.files == 0
    for outcome in ended:  # nothing is left of them
        wanted = {"probe"} if outcome.media.uri in SHORT else {"probe", "beats"}
        assert outcome.jobs.keys() == wanted
    tasks = [(task.media.uri, task.run) for task in stage.pool.tasks]
    assert len(set(tasks)) == len(tasks)
    totals = RunTotals()
    for outcome in ended:
        totals.add(outcome)
    totals.merge(stage.left)
    assert totals.jobs.get("probe", {}).get(Status.DONE, 0) == len(
        [1 for _, run in tasks if run == ("probe",)]
    )
    assert sum(totals.cpu_seconds.values()) == len(tasks)
