"""The source of a local streaming pipeline over any queue, and the steps that follow it.

``Receive → Respond → Publish`` are one stage: Beam fuses them, and no step that buffers may come
between them. Messages are acknowledged when their bundle is finalized: after the ledger is written
and the replies are published.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.transforms.core import RestrictionProvider

from segue.execution.responder import Reply
from segue_pipelines.streaming.reply_report import count_replies, log_replies
from segue_pipelines.streaming.stream_worker import PulledBatch, StreamWorker, stream_workers

if TYPE_CHECKING:
    from segue_pipelines.streaming.streaming_run import StreamingRun

LAST = sys.maxsize - 1


class _Bundles(RestrictionProvider):  # type: ignore[misc]
    """Numbers the bundles; there is always a next one until the source ends."""

    def initial_restriction(self, _element: Any) -> OffsetRange:
        return OffsetRange(0, LAST + 1)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, _element: Any, _restriction: OffsetRange) -> int:
        return 1

    def split(self, _element: Any, restriction: OffsetRange) -> Iterator[OffsetRange]:
        yield restriction


_BUNDLES = beam.DoFn.RestrictionParam(_Bundles())


class _Step(beam.DoFn):  # type: ignore[misc]
    """A step that uses the stream worker of its process."""

    def __init__(self, run: StreamingRun) -> None:
        self._run = run
        self._worker: StreamWorker

    def setup(self) -> None:
        """Get the stream worker; the first step to ask for it opens it."""
        self._worker = stream_workers.get_or_open(self._run)


class Receive(_Step):
    """Emits batches: what was pulled from the queue, and how long to work."""

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(
        self,
        _element: bytes,
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = _BUNDLES,
    ) -> Iterator[PulledBatch]:
        """Emit the batches of one bundle, then defer the next bundle."""
        finalizer.register(self._worker.acknowledge)
        tracker.try_claim(tracker.current_restriction().start)
        yield from self._worker.pull_batches()
        if self._worker.is_over:
            tracker.try_claim(LAST)
        else:
            tracker.defer_remainder()

    def teardown(self) -> None:
        """Close the stream worker."""
        stream_workers.close(self._run.name)


class Respond(_Step):
    """Emits lists of replies."""

    def process(self, batch: PulledBatch) -> Iterator[list[Reply]]:
        """Work on a batch for as long as it says."""
        yield self._worker.respond(batch)


class Publish(_Step):
    """Emits nothing: publishes replies, after which their messages may be acknowledged."""

    def process(self, replies: list[Reply]) -> None:
        """Publish, then log and count."""
        sent = self._worker.publish(replies)
        log_replies(sent)
        count_replies(sent)
