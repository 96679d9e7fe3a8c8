"""A pool that outlives what its jobs need: put up anew, with what was under way."""

from __future__ import annotations

import pytest

from segue.errors import ConfigurationError, Unavailable
from segue.model.media_file import MediaFile
from segue.worker.restarting_pool import LastingPool
from segue.worker.task import Task
from segue_support.recording_pool import RecordingCrew

MEDIA = MediaFile(uri="gs://x/a.wav", generation=1)


class StandIn(RecordingCrew):
    """A pool without processes; it may be broken."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(processes=3)
        self.error = error
        self.ended = None

    def collect(self, timeout_s: float):
        if self.error is not None:
            raise self.error
        return super().collect(timeout_s)

    def close(self) -> None:
        self.ended = "closed"

    def kill(self) -> None:
        self.ended = "killed"


def tasks(*tickets: int) -> list[Task]:
    return [Task(ticket=ticket, media=MEDIA, run=("a",)) for ticket in tickets]


def test_what_was_under_way_is_given_to_the_next_pool_and_what_is_done_is_not():
    broken, whole = StandIn(), StandIn()
    opened = iter([broken, whole])
    pool = LastingPool(lambda: next(opened))
    assert pool.processes == 3
    pool.submit(tasks(1))
    assert [r.ticket for r in pool.collect(0.0)] == [1]
    pool.submit(tasks(2, 3))
    broken.error = Unavailable("the model's server is away")
    with pytest.raises(Unavailable):
        pool.collect(0.0)
    assert broken.ended == "killed"
    pool.submit(tasks(4))  # while there is none
    assert [r.ticket for r in pool.collect(0.0)] == [2, 3, 4]
    assert pool.pending == 0


def test_a_pool_that_cannot_be_put_up_is_tried_again():
    whole = StandIn()
    outcomes = iter([StandIn(Unavailable("away")), Unavailable("still away"), whole])

    def opened():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    pool = LastingPool(opened)
    pool.submit(tasks(1))
    for _ in range(2):
        with pytest.raises(Unavailable):
            pool.collect(0.0)
    assert [r.ticket for r in pool.collect(0.0)] == [1]


def test_a_wrong_setup_stays_wrong():
    opened = iter([StandIn(ConfigurationError("no such job"))])
    pool = LastingPool(lambda: next(opened))
    pool.submit(tasks(1))
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            pool.collect(0.0)


@pytest.mark.parametrize(("tickets", "how"), [((), "closed"), ((1,), "killed")])
def test_it_waits_for_no_job_when_it_is_closed(tickets, how):
    inner = StandIn()
    pool = LastingPool(lambda: inner)
    pool.submit(tasks(*tickets))
    pool.close()
    assert inner.ended == how
