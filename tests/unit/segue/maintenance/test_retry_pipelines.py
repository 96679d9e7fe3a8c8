"""Dead letters of all pipelines are in one place: each is replayed to a pipeline that reads it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.maintenance.retry import DeadLetterReplay, RetrySelection
from segue.model.dead_letter import Stage, build_dead_letter, dead_letter_to_envelope
from segue.model.message import Message, encode_message
from segue.model.queue import Envelope, list_subscriptions
from segue.model.record import Failure
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.stream import build_graph

GRAPH = build_graph({"beats": (), "loudness": ()}, {"rhythm": ("beats",)})
EVENT = Message(uri="gs://b/a.wav", version="1", order=1, trigger="source")


def dead(pipeline: str, job: str | None = None) -> Envelope:
    return dead_letter_to_envelope(
        build_dead_letter(
            stage=Stage.DECODE if job is None else Stage.RUN,
            pipeline=pipeline,
            job=job,
            error=Failure(kind="crashed", type="Crashed", message="it crashed"),
            data=b"poison" if job is None else encode_message(EVENT),
            uri=EVENT.uri,
            order=EVENT.order,
            at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    )


def replay(letter: Envelope, *jobs: str) -> list[str]:
    """Replay a letter for some jobs; return which subscriptions have something then."""
    queue = MemoryQueue()
    queue.subscribe(list_subscriptions(GRAPH))
    queue.publish([letter])
    DeadLetterReplay(
        graph=GRAPH,
        ledger=MemoryLedger(),
        queue=queue,
        selection=RetrySelection(jobs=jobs),
        wait_s=0.0,
    ).run(dry_run=False)
    return [queue.find_subscription(number) for number in queue.queued]


@pytest.mark.parametrize(
    ("jobs", "found"), [(("loudness",), ["dead"]), (("beats",), ["rhythm.inbox"])]
)
def test_a_letter_without_a_job_is_selected_by_its_pipeline(jobs, found):
    assert replay(dead("rhythm"), *jobs) == found


def test_a_letter_of_a_pipeline_that_is_gone_stays_where_it_is():
    assert replay(dead("gone"), *GRAPH.jobs) == ["dead"]


def test_the_letter_of_a_job_goes_to_the_pipeline_that_has_it_by_now():
    assert replay(dead("beats", "beats"), "beats") == ["rhythm.inbox"]
