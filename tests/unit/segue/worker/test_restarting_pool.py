"""After an outage the pool is started again with the unfinished tasks."""

from __future__ import annotations

import pytest

from segue.errors import ConfigurationError, Unavailable
from segue.model.media_file import MediaFile
from segue.worker.restarting_pool import RestartingPool
from segue.worker.task import Task
from segue_support.recording_pool import RecordingPool

MEDIA = MediaFile(uri="gs://x/a.wav", generation=1)


class FakePool(RecordingPool):
    """A pool without processes, which can be made to fail."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(processes=3)
        self.error = error
        self.end = None

    def collect(self, timeout_s: float):
        if self.error is not None:
            raise self.error
        return super().collect(timeout_s)

    def close(self) -> None:
        self.end = "closed"

    def kill(self) -> None:
        self.end = "killed"


def tasks(*task_ids: int) -> list[Task]:
    return [Task(task_id=task_id, media=MEDIA, run=("a",)) for task_id in task_ids]


def test_only_unfinished_tasks_are_submitted_to_the_next_pool():
    broken, whole = FakePool(), FakePool()
    pools = iter([broken, whole])
    pool = RestartingPool(lambda: next(pools))
    assert pool.processes == 3
    pool.submit(tasks(1))
    assert [r.task_id for r in pool.collect(0.0)] == [1]
    pool.submit(tasks(2, 3))
    broken.error = Unavailable("the model's server is away")
    with pytest.raises(Unavailable):
        pool.collect(0.0)
    assert broken.end == "killed"
    pool.submit(tasks(4))  # while no pool runs
    assert [r.task_id for r in pool.collect(0.0)] == [2, 3, 4]
    assert pool.pending == 0


def test_a_pool_that_cannot_be_started_is_tried_again():
    whole = FakePool()
    outcomes = iter([FakePool(Unavailable("away")), Unavailable("still away"), whole])

    def open_pool():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    pool = RestartingPool(open_pool)
    pool.submit(tasks(1))
    for _ in range(2):
        with pytest.raises(Unavailable):
            pool.collect(0.0)
    assert [r.task_id for r in pool.collect(0.0)] == [1]


def test_a_wrong_setup_stays_wrong():
    pools = iter([FakePool(ConfigurationError("no such job"))])
    pool = RestartingPool(lambda: next(pools))
    pool.submit(tasks(1))
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            pool.collect(0.0)


@pytest.mark.parametrize(("task_ids", "how"), [((), "closed"), ((1,), "killed")])
def test_closing_does_not_wait_for_unfinished_tasks(task_ids, how):
    inner = FakePool()
    pool = RestartingPool(lambda: inner)
    pool.submit(tasks(*task_ids))
    pool.close()
    assert inner.end == how
