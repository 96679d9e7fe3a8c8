"""Some changes on their way into Firestore, each written on the condition that nobody was faster.

The condition is the time at which the document was last updated, which is a snapshot's revision.
BatchWrite tells of each document for itself whether the condition held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from segue.adapters.firestore_rpc import Code, FirestoreRpc, RawMessage
from segue.adapters.firestore_values import decode, encode
from segue.errors import ConfigurationError, Unavailable
from segue.model.ledger import Change, Changed, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from segue.model.record import Record

T = TypeVar("T")

CALL_BYTES = 3 << 20  # of the 10 MiB that a call may have; the emulator takes 4
DOCUMENT_BYTES = 1_000_000  # of the 1 MiB that a document may have, by a slightly different measure

NOT_APPLIED = {Code.RESOURCE_EXHAUSTED, Code.ABORTED}
LOST = {Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION, Code.NOT_FOUND}
UNSURE = {
    Code.CANCELLED,
    Code.UNKNOWN,
    Code.DEADLINE_EXCEEDED,
    Code.INTERNAL,
    Code.UNAVAILABLE,
}


def snapshots(rpc: FirestoreRpc, ids: Sequence[str], timeout_s: float) -> dict[str, Snapshot]:
    """Read documents in one call."""
    found = dict.fromkeys(ids, Snapshot(record=None))
    for document in rpc.get(ids, timeout_s) if ids else ():
        name = document.name
        found[name.rpartition("/")[2]] = Snapshot(
            record=decode(name, document.fields), revision=_nanoseconds(document.update_time)
        )
    return found


@dataclass(slots=True)
class _Pending(Generic[T]):
    """A change that is not made yet."""

    change: Change[T]
    snapshot: Snapshot | None  # what is known, perhaps stale; None: to be read
    # Writes that the server may have applied without being able to say so.
    unsure: list[tuple[Record, T]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Write(Generic[T]):
    """What a pending change has become."""

    id: str
    known: Snapshot
    record: Record
    answer: T
    message: RawMessage
    size_bytes: int


class Batch(Generic[T]):
    """Changes by the ids of their documents; those that are made stand in ``done``."""

    def __init__(self, changes: Mapping[str, Change[T]]) -> None:
        self._pending = {i: _Pending(c, _usable(c.known)) for i, c in changes.items()}
        self.done: dict[str, Changed[T]] = {}

    @property
    def left(self) -> list[str]:
        """The URIs whose changes are not made yet."""
        return [p.change.uri for p in self._pending.values()]

    def round(self, rpc: FirestoreRpc, timeout_s: float) -> None:
        """Apply the transitions to what is known or else read, and write what they changed."""
        writes: list[_Write[T]] = []
        unread: list[str] = []
        for key, item in self._pending.items():
            write = self._apply(rpc, key, item.snapshot)[0] if item.snapshot else None
            if write is not None:
                writes.append(write)
            else:  # where nothing is to be written, only a read shows whether that is still so
                unread.append(key)
        for key, snapshot in snapshots(rpc, unread, timeout_s).items():
            write, answer = self._apply(rpc, key, snapshot)
            if write is not None:
                writes.append(write)
            else:
                self._finish(key, snapshot, answer)
        for some in _by_size(writes):
            self._send(rpc, some, timeout_s)

    def _apply(self, rpc: FirestoreRpc, key: str, snapshot: Snapshot) -> tuple[_Write[T] | None, T]:
        """Return what is to be written, if anything, and the transition's answer."""
        item = self._pending[key]
        for record, answer in item.unsure:
            if record == snapshot.record:  # that write was made after all
                return None, answer
        new, answer = item.change.transition(snapshot.record)
        if new is None or new is snapshot.record:
            return None, answer
        message = _message(rpc, key, new, snapshot)
        return _Write(key, snapshot, new, answer, message, _checked_size(new, message)), answer

    def _send(self, rpc: FirestoreRpc, writes: Sequence[_Write[T]], timeout_s: float) -> None:
        for write in writes:
            self._pending[write.id].snapshot = None
        try:
            results = rpc.write([w.message for w in writes], timeout_s)
        except Unavailable:
            for write in writes:
                self._pending[write.id].unsure.append((write.record, write.answer))
            raise
        for write, (status, updated) in zip(writes, results, strict=True):
            if status.code == Code.OK:
                snapshot = Snapshot(record=write.record, revision=_nanoseconds(updated))
                self._finish(write.id, snapshot, write.answer)
            elif status.code in NOT_APPLIED:
                self._pending[write.id].snapshot = write.known
            elif status.code in UNSURE:
                self._pending[write.id].unsure.append((write.record, write.answer))
            elif status.code not in LOST:
                raise rpc.error(status.code, status.message)

    def _finish(self, key: str, snapshot: Snapshot, answer: T) -> None:
        self.done[key] = Changed(snapshot=snapshot, answer=answer)
        del self._pending[key]


def _usable(known: Snapshot | None) -> Snapshot | None:
    """A known snapshot, unless it came from elsewhere and has no revision to compare."""
    if known is not None and (known.record is None or known.revision is not None):
        return known
    return None


def _message(rpc: FirestoreRpc, key: str, record: Record, snapshot: Snapshot) -> RawMessage:
    """One document's new content, and the condition under which it is written."""
    write = rpc.new_write()
    write.update.name = rpc.name(key)
    encode(record, write.update.fields)
    if snapshot.record is None:
        write.current_document.exists = False
    else:
        seconds, nanos = divmod(snapshot.revision, 10**9)
        write.current_document.update_time.seconds = seconds
        write.current_document.update_time.nanos = nanos
    return write


def _checked_size(record: Record, message: RawMessage) -> int:
    if (size := int(message.ByteSize())) > DOCUMENT_BYTES:
        raise ConfigurationError(
            f"the record of {record.uri} has {size} bytes, and a Firestore document holds 1 MiB; "
            "shorten what is stored with each job, or split the graph"
        )
    return size


def _nanoseconds(stamp: RawMessage) -> int:
    return int(stamp.seconds * 10**9 + stamp.nanos)


def _by_size(writes: Sequence[_Write[T]]) -> Iterator[list[_Write[T]]]:
    """Group writes so that each group fits into one call."""
    some: list[_Write[T]] = []
    size = 0
    for write in writes:
        if some and size + write.size_bytes > CALL_BYTES:
            yield some
            some, size = [], 0
        some.append(write)
        size += write.size_bytes
    if some:
        yield some
