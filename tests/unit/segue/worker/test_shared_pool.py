"""One pool for many threads: each gets what it asked for, and hears when nothing works."""

from __future__ import annotations

import threading

import pytest

from segue.errors import ConfigurationError, Unavailable
from segue.model.graph import load
from segue.testing.trial import PATIENCE_S, Trial
from segue.worker.shared_pool import SharedPool
from segue.worker.task import Task
from segue_support.recording_pool import RecordingCrew

GRAPH = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  crash: {run: "segue_support.jobs:segfault", needs: {media: source}, writes: application/json}
"""


@pytest.fixture
def graph(tmp_path):
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    return load(str(tmp_path / "jobs.yaml"))


class StandIn(RecordingCrew):
    """A pool without processes; it may be broken."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.ended = []

    def collect(self, timeout_s: float):
        if self.error is not None:
            raise self.error
        return super().collect(timeout_s)

    def close(self) -> None:
        self.ended.append("closed")

    def kill(self) -> None:
        self.ended.append("killed")


def tasks(media, numbers):
    return [Task(ticket=n, media=media, run=("fine",)) for n in numbers]


def finish(desk, count: int) -> list[int]:
    """Collect until so many tasks are finished; their tickets."""
    found = []
    while len(found) < count:
        reports = desk.collect(PATIENCE_S)
        assert reports, "nothing came"
        found += [r.ticket for r in reports if r.finished]
    return found


def test_many_threads_share_the_children_and_each_gets_its_own_results(graph, tmp_path):
    trial = Trial(str(tmp_path))
    media = [trial.add(f"{i}.wav") for i in range(8)]
    shared = SharedPool(lambda: trial.pool(graph, processes=2))
    told = {}

    def work(number: int) -> None:
        desk = shared.desk()
        # All use the same tickets, and nobody minds.
        desk.submit([Task(ticket=t, media=media[number], run=("fine",)) for t in range(5)])
        reports = []
        while sum(r.finished for r in reports) < 5:
            reports += desk.collect(PATIENCE_S)
        told[number] = {(r.ticket, r.results[0].artifact) for r in reports}

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(media))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    shared.close()
    for number in range(len(media)):
        assert sorted(ticket for ticket, _ in told[number]) == [0, 1, 2, 3, 4]
        assert all(f"{number}.wav" in artifact for _, artifact in told[number])


def test_a_crash_costs_one_thread_one_task(graph, tmp_path):
    trial = Trial(str(tmp_path))
    shared = SharedPool(lambda: trial.pool(graph, processes=1))
    bad, good = shared.desk(), shared.desk()
    bad.submit([Task(ticket=1, media=trial.add("bad.wav"), run=("crash",))])
    good.submit([Task(ticket=1, media=trial.add("good.wav"), run=("crash",))])
    kinds = {}
    for name, desk in (("bad", bad), ("good", good)):
        (report,) = desk.collect(PATIENCE_S)
        error = report.results[0].error
        kinds[name] = error.kind if error else None
    shared.close()
    assert kinds == {"bad": "crashed", "good": None}


def test_a_desk_waits_no_longer_than_it_is_told(graph, tmp_path):
    silent = StandIn()
    silent.collect = lambda timeout_s: []
    shared = SharedPool(lambda: silent)
    desk = shared.desk()
    assert desk.collect(PATIENCE_S) == []  # nothing is pending, so there is nothing to wait for
    desk.submit(tasks(Trial(str(tmp_path)).add("a.wav"), [1]))
    assert desk.collect(0.01) == []
    shared.close()
    assert silent.ended == ["killed"]  # it had something to do


@pytest.mark.parametrize("error", [ConfigurationError("no such job"), Unavailable("no model")])
def test_a_desk_hears_that_nothing_works_and_the_next_task_gets_a_new_pool(graph, tmp_path, error):
    broken, whole = StandIn(error), StandIn()
    opened = iter([broken, whole])
    shared = SharedPool(lambda: next(opened))
    media = Trial(str(tmp_path)).add("a.wav")
    desk = shared.desk()
    desk.submit(tasks(media, [1]))
    with pytest.raises(type(error), match=str(error)):
        desk.collect(PATIENCE_S)
    assert broken.ended == ["killed"]
    desk.submit(tasks(media, [2]))
    assert finish(desk, 1) == [2]
    shared.close()
    assert whole.ended == ["closed"]
    assert [t.run for t in whole.tasks] == [("fine",)]  # what had failed was not tried again


def test_a_closed_pool_takes_nothing(graph, tmp_path):
    shared = SharedPool(StandIn)
    shared.close()
    with pytest.raises(ConfigurationError, match="closed"):
        shared.desk().submit(tasks(Trial(str(tmp_path)).add("a.wav"), [1]))
