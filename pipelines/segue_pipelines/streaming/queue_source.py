"""The source of a local streaming pipeline, and the steps behind it: over any queue.

``Receive → Respond → Publish`` are one stage: Beam fuses them, and nothing may come between them
that buffers. A bundle is acknowledged when it is finalized, after ledger and publication.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.transforms.core import RestrictionProvider

from segue.execution.responder import Reply
from segue_pipelines.streaming.reply_report import count, log
from segue_pipelines.streaming.stream_worker import Station, Tick, stations

if TYPE_CHECKING:
    from segue_pipelines.streaming.pipeline import Streaming

LAST = sys.maxsize - 1


class _Bundles(RestrictionProvider):  # type: ignore[misc]
    """Numbers the bundles; there is always one more, until the source has ended."""

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
    """A step at the station of its process."""

    def __init__(self, run: Streaming) -> None:
        self._run = run
        self._station: Station

    def setup(self) -> None:
        """Come to the station; whoever comes first opens it."""
        self._station = stations.of(self._run)


class Receive(_Step):
    """Emits ticks: what was pulled from the queue, and time for what was pulled before."""

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(
        self,
        _element: bytes,
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = _BUNDLES,
    ) -> Iterator[Tick]:
        """Emit the ticks of one bundle, and have the next one made."""
        finalizer.register(self._station.acknowledge)
        tracker.try_claim(tracker.current_restriction().start)
        yield from self._station.ticks()
        if self._station.is_over:
            tracker.try_claim(LAST)
        else:
            tracker.defer_remainder()

    def teardown(self) -> None:
        """Close the station."""
        stations.close(self._run.name)


class Respond(_Step):
    """Emits lists of replies."""

    def process(self, tick: Tick) -> Iterator[list[Reply]]:
        """Work for a while."""
        yield self._station.respond(tick)


class Publish(_Step):
    """Emits nothing: tells what replies say, then deliveries may be acknowledged."""

    def process(self, replies: list[Reply]) -> None:
        """Publish, then log and count."""
        sent = self._station.publish(replies)
        log(sent)
        count(sent)
