"""A pool that many threads share, and that outlives outages, loses no task and no error."""

from __future__ import annotations

import threading

import pytest

from segue.errors import ConfigurationError, DiskFull, Unavailable
from segue.model.graph import read_graph
from segue.model.media_file import MediaFile
from segue.worker.protocol import Task
from segue.worker.shared_pool import SharedPool
from segue_support.recording_pool import RecordingPool
from segue_support.trial import COLLECT_TIMEOUT_S, Trial

MEDIA = MediaFile(uri="gs://x/a.wav", version="1", order=1)
GRAPH = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  crash: {run: "segue_support.jobs:segfault", needs: {media: source}, writes: application/json}
"""


@pytest.fixture
def graph(tmp_path):
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    return read_graph(str(tmp_path / "jobs.yaml"))


class FakePool(RecordingPool):
    """A pool without processes, which can be made to fail."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(processes=3)
        self.error = error
        self.ends = []

    def collect(self, timeout_s: float):
        if self.error is not None:
            raise self.error
        return super().collect(timeout_s)

    def close(self) -> None:
        self.ends.append("closed")

    def kill(self) -> None:
        self.ends.append("killed")


def build_tasks(*task_ids: int) -> list[Task]:
    return [Task(task_id=task_id, media=MEDIA, run=("fine",)) for task_id in task_ids]


def open_pools(*outcomes):
    """Return a client of a shared pool that opens these pools in turn, or fails to."""
    left = iter(outcomes)

    def open_pool():
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return SharedPool(open_pool).build_client()


@pytest.mark.parametrize("error", [Unavailable("the model's server is away"), DiskFull("no space")])
def test_only_unfinished_tasks_are_submitted_to_the_next_pool(error):
    broken, whole = FakePool(), FakePool()
    client = open_pools(broken, whole)
    assert client.processes == 3
    client.submit(build_tasks(1))
    assert [r.task_id for r in client.collect(0.0)] == [1]
    client.submit(build_tasks(2, 3))
    broken.error = error
    with pytest.raises(type(error)):
        client.collect(0.0)
    assert broken.ends == ["killed"]
    client.submit(build_tasks(4))  # while no pool runs
    assert [r.task_id for r in client.collect(0.0)] == [2, 3, 4]
    assert client.collect(0.0) == []


def test_a_pool_that_cannot_be_started_is_tried_again():
    client = open_pools(FakePool(Unavailable("away")), Unavailable("still away"), FakePool())
    client.submit(build_tasks(1))
    for _ in range(2):
        with pytest.raises(Unavailable):
            client.collect(0.0)
    assert [r.task_id for r in client.collect(0.0)] == [1]


def test_what_was_reported_before_an_error_is_not_lost():
    broken, whole = FakePool(), FakePool()
    client = open_pools(broken, whole)
    client.submit(build_tasks(1))
    client._pool.collect(0.0)
    client.submit(build_tasks(2))
    broken.error = Unavailable("away")
    client._pool.collect(0.0)
    assert [r.task_id for r in client.collect(0.0)] == [1]
    with pytest.raises(Unavailable):
        client.collect(0.0)
    assert [r.task_id for r in client.collect(0.0)] == [2]


def test_abandoned_tasks_are_not_tried_again_and_nobody_waits_for_them():
    broken, whole = FakePool(), FakePool()
    client = open_pools(broken, whole)
    client.submit(build_tasks(1))
    broken.error = Unavailable("away")
    with pytest.raises(Unavailable):
        client.collect(0.0)
    client.abandon()
    assert client.collect(COLLECT_TIMEOUT_S) == []
    client.submit(build_tasks(2))
    assert collect_finished(client, 1) == [2]
    assert len(whole.tasks) == 1


@pytest.mark.parametrize(("task_ids", "how"), [((), "closed"), ((1,), "killed")])
def test_closing_does_not_wait_for_unfinished_tasks(task_ids, how):
    inner = FakePool()
    inner.collect = lambda timeout_s: []
    shared = SharedPool(lambda: inner)
    client = shared.build_client()
    client.submit(build_tasks(*task_ids))
    client.collect(0.0)
    shared.close()
    assert inner.ends == [how]


def collect_finished(client, count: int) -> list[int]:
    """Collect until so many tasks are finished; return their ids."""
    found = []
    while len(found) < count:
        reports = client.collect(COLLECT_TIMEOUT_S)
        assert reports, "no report arrived"
        found += [r.task_id for r in reports if r.finished]
    return found


def test_many_threads_share_the_children_and_each_gets_its_own_results(graph, tmp_path):
    trial = Trial(str(tmp_path))
    media = [trial.add(f"{i}.wav") for i in range(8)]
    shared = SharedPool(lambda: trial.pool(graph, processes=2))
    results = {}

    def work(number: int) -> None:
        client = shared.build_client()
        # All use the same task ids, which do not collide.
        client.submit([Task(task_id=t, media=media[number], run=("fine",)) for t in range(5)])
        reports = []
        while sum(r.finished for r in reports) < 5:
            reports += client.collect(COLLECT_TIMEOUT_S)
        results[number] = {(r.task_id, *r.results[0].artifacts) for r in reports}

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(media))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(COLLECT_TIMEOUT_S)
    shared.close()
    for number in range(len(media)):
        assert sorted(task_id for task_id, _ in results[number]) == [0, 1, 2, 3, 4]
        assert all(f"{number}.wav" in artifact for _, artifact in results[number])


def test_it_is_loading_until_the_children_can_begin(graph, tmp_path):
    trial = Trial(str(tmp_path))
    shared = SharedPool(lambda: trial.pool(graph, processes=1))
    client = shared.build_client()
    assert shared.is_loading
    client.submit([Task(task_id=1, media=trial.add("a.wav"), run=("fine",))])
    assert collect_finished(client, 1) == [1]
    assert not shared.is_loading
    shared.close()


def test_a_crash_costs_one_thread_one_task(graph, tmp_path):
    trial = Trial(str(tmp_path))
    shared = SharedPool(lambda: trial.pool(graph, processes=1))
    bad, good = shared.build_client(), shared.build_client()
    bad.submit([Task(task_id=1, media=trial.add("bad.wav"), run=("crash",))])
    good.submit([Task(task_id=1, media=trial.add("good.wav"), run=("crash",))])
    kinds = {}
    for name, client in (("bad", bad), ("good", good)):
        (report,) = client.collect(COLLECT_TIMEOUT_S)
        error = report.results[0].error
        kinds[name] = error.kind if error else None
    shared.close()
    assert kinds == {"bad": "crashed", "good": None}


def test_a_client_waits_no_longer_than_its_timeout():
    idle = FakePool()
    idle.collect = lambda timeout_s: []
    shared = SharedPool(lambda: idle)
    client = shared.build_client()
    assert client.collect(COLLECT_TIMEOUT_S) == []  # nothing is pending
    client.submit(build_tasks(1))
    assert client.collect(0.01) == []
    shared.close()
    assert idle.ends == ["killed"]  # it had unfinished tasks


def test_every_client_gets_the_error_of_the_pool():
    broken, whole = FakePool(ConfigurationError("no such job")), FakePool()
    pools = iter([broken, whole])
    shared = SharedPool(lambda: next(pools))
    clients = [shared.build_client() for _ in range(2)]
    for client in clients:
        client.submit(build_tasks(1))
    for client in clients:
        with pytest.raises(ConfigurationError, match="no such job"):
            client.collect(COLLECT_TIMEOUT_S)
        client.abandon()
    assert broken.ends == ["killed"]
    clients[1].submit(build_tasks(2))
    assert collect_finished(clients[1], 1) == [2]
    shared.close()
    assert whole.ends == ["closed"]
    assert [t.run for t in whole.tasks] == [("fine",)]  # the failed tasks were not tried again


def test_batches_wait_for_the_tasks_of_others_but_for_none_if_a_client_is_alone():
    inner = FakePool()
    inner.batch_files = 48
    shared = SharedPool(lambda: inner)
    first = shared.build_client()
    assert first.batch_files == 48
    first.submit(build_tasks(1))
    first.flush()
    assert inner.flushed == []  # the task has not been sent yet
    shared.collect(0.0)
    first.flush()
    assert inner.flushed == [1]
    second = shared.build_client()
    second.submit(build_tasks(2))
    shared.collect(0.0)
    first.flush()
    assert inner.flushed == [1]
    shared.close()
    first.flush()
    assert first.batch_files == 0


def test_a_closed_pool_accepts_no_tasks():
    shared = SharedPool(FakePool)
    shared.close()
    with pytest.raises(ConfigurationError, match="closed"):
        shared.build_client().submit(build_tasks(1))
