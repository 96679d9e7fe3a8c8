"""Batches within the limits of one Pub/Sub call.

The limits are at https://cloud.google.com/pubsub/quotas#resource_limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from segue.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from segue.model.queue import Envelope

T = TypeVar("T")

MAX_ENVELOPES, MAX_ENVELOPES_SIZE_BYTES = 1000, 3_500_000  # of 10 MB; the emulator accepts 4 MiB
MAX_ENVELOPE_SIZE_BYTES = 9_900_000
MAX_ACK_IDS, MAX_ACK_IDS_SIZE_BYTES = 2500, 480_000  # of 512 KiB
FRAME_SIZE_BYTES = 32  # generous overhead of an envelope or attribute in the request


def batch_envelopes(envelopes: Sequence[Envelope]) -> Iterator[list[Envelope]]:
    """Yield the envelopes of each call, all of one topic, in the given order."""
    by_topic: dict[str, list[Envelope]] = {}
    for envelope in envelopes:
        by_topic.setdefault(envelope.topic, []).append(envelope)
    for group in by_topic.values():
        yield from _split_by_size(group, _measure_envelope, MAX_ENVELOPES, MAX_ENVELOPES_SIZE_BYTES)


def batch_ack_ids(ack_ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield the ack ids of each call."""
    yield from _split_by_size(ack_ids, _measure_ack_id, MAX_ACK_IDS, MAX_ACK_IDS_SIZE_BYTES)


def _measure_envelope(envelope: Envelope) -> int:
    size = len(envelope.data) + FRAME_SIZE_BYTES
    for key, value in envelope.attributes.items():
        size += len(key.encode()) + len(value.encode()) + FRAME_SIZE_BYTES
    if size > MAX_ENVELOPE_SIZE_BYTES:
        raise ConfigurationError(
            f"a letter to {envelope.topic!r} has {size:,} bytes, and Pub/Sub takes 10,000,000; "
            "put what it carries into an object, and send its URI"
        )
    return size


def _measure_ack_id(ack_id: str) -> int:
    return len(ack_id) + 4


def _split_by_size(
    values: Sequence[T], size_of: Callable[[T], int], most: int, most_bytes: int
) -> Iterator[list[T]]:
    batch: list[T] = []
    size_bytes = 0
    for value in values:
        more_bytes = size_of(value)
        if batch and (len(batch) == most or size_bytes + more_bytes > most_bytes):
            yield batch
            batch, size_bytes = [], 0
        batch.append(value)
        size_bytes += more_bytes
    if batch:
        yield batch
