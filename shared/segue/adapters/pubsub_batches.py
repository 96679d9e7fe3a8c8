"""How much Pub/Sub takes in one call (https://cloud.google.com/pubsub/quotas#resource_limits)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from segue.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from segue.model.queue import Letter

T = TypeVar("T")

LETTERS, LETTERS_SIZE_BYTES = 1000, 3_500_000  # of 10 MB; the emulator takes 4 MiB
LARGEST_SIZE_BYTES = 9_900_000
RECEIPTS, RECEIPTS_SIZE_BYTES = 2500, 480_000  # of 512 KiB
AROUND_SIZE_BYTES = 32  # a letter's or an attribute's frame in the request, generously


def publications(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    """Yield the letters of each call, all of one topic, in the order in which they were given."""
    by_topic: dict[str, list[Letter]] = {}
    for letter in letters:
        by_topic.setdefault(letter.topic, []).append(letter)
    for some in by_topic.values():
        yield from _batches(some, _size_bytes, LETTERS, LETTERS_SIZE_BYTES)


def receipts(all_of_them: Sequence[str]) -> Iterator[list[str]]:
    """Yield the receipts of each call."""
    yield from _batches(all_of_them, _receipt_size_bytes, RECEIPTS, RECEIPTS_SIZE_BYTES)


def _size_bytes(letter: Letter) -> int:
    size = len(letter.data) + AROUND_SIZE_BYTES
    for key, value in letter.attributes.items():
        size += len(key.encode()) + len(value.encode()) + AROUND_SIZE_BYTES
    if size > LARGEST_SIZE_BYTES:
        raise ConfigurationError(
            f"a letter to {letter.topic!r} has {size:,} bytes, and Pub/Sub takes 10,000,000; "
            "put what it carries into an object, and send its URI"
        )
    return size


def _receipt_size_bytes(receipt: str) -> int:
    return len(receipt) + 4


def _batches(
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
