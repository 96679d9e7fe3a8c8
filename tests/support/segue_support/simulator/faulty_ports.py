"""Ports that inject faults: a call may be delayed, fail, half succeed, or kill its process.

Before each call other actors may run any number of steps, so steps of all processes interleave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from segue.errors import Contended, Unavailable
from segue.model.controls import ControlChange, Controls
from segue.model.queue import DEAD_TOPIC, Subscription
from segue_support.simulator.faults import (
    AFTER_EFFECT,
    CRASHES,
    BrokenPromise,
    CallFault,
    Killed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segue.model.ledger import Change, Changed, DamageReport, LedgerCounts, Query, Snapshot
    from segue.model.object_store import LeaveOut, LeftOutReason, Object, ObjectStore
    from segue.model.queue import Envelope, ReceivedEnvelope
    from segue.model.record import Record
    from segue_support.simulator.namespace import Namespace
    from segue_support.simulator.world import Caller

T = TypeVar("T")


class _FaultyPort:
    def __init__(self, caller: Caller) -> None:
        self._world = caller.home.world
        self._checker = caller.home.checker
        self._caller = caller

    def _call(self, what: str, effect: Callable[[], T]) -> T:
        fault = self._world.draw_call_fault(self._caller.name)
        if fault is CallFault.NONE:
            return effect()
        if fault in AFTER_EFFECT:
            effect()
        raise self._build_error(what, fault)

    def _call_each(self, what: str, things: Sequence[Any], effect: Callable[[Any], T]) -> list[T]:
        """Apply an effect to many things; if the call fails, some may have been applied."""
        fault = self._world.draw_call_fault(self._caller.name)
        if fault is CallFault.NONE:
            return [effect(thing) for thing in things]
        done = self._world.rng.randint(0, len(things)) if fault in AFTER_EFFECT else 0
        for thing in things[:done]:
            effect(thing)
        raise self._build_error(f"{what}, {done} of {len(things)} done", fault)

    def _build_error(self, what: str, fault: CallFault) -> BaseException:
        self._world.note(self._caller.name, f"{fault.name.lower().replace('_', ' ')} {what}")
        if fault in CRASHES:
            return Killed(what)
        if what.startswith("ledger.change") and self._world.rng.random() < 0.5:
            return Contended("others were faster, each time; try again")
        return Unavailable("the server is away; try again")


class FaultyLedger(_FaultyPort):
    """A namespace's ledger as a process sees it; the promise checker checks every write."""

    def __init__(self, caller: Caller, home: Namespace | None = None) -> None:
        super().__init__(caller)
        self._home = home or caller.home
        self._ledger = self._home.ledger

    @property
    def damage(self) -> DamageReport:
        """The records that cannot be read: none."""
        return self._ledger.damage

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Read many records."""
        return self._call("ledger.read", lambda: self._ledger.read(uris))

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        """Apply each transition; as in a real store, again if another write came first."""
        if len({c.uri for c in changes}) != len(changes):
            raise AssertionError("the URIs of one call must be distinct")
        if self._home is not self._caller.home:
            raise BrokenPromise("rights", f"{self._caller.name} writes to {self._home.name}")
        return self._call_each("ledger.change", changes, self._change) if changes else []

    def _change(self, change: Change[T]) -> Changed[T]:
        ledger = self._ledger
        (before,) = ledger.read([change.uri])
        if change.known is not None and change.known.revision != before.revision:
            change.transition(change.known.record)  # as a store does before it detects the conflict
        (changed,) = ledger.change([change])
        self._caller.seen.pop(change.uri, None)
        if changed.snapshot.record is not None and changed.snapshot.record.deleted_at is None:
            self._caller.seen[change.uri] = changed.snapshot.record.version
        if changed.snapshot.revision != before.revision:
            assert changed.snapshot.record is not None
            self._checker.check_write(self._caller, before.record, changed.snapshot.record)
        return changed

    def count(self, accepted: Mapping[str, Sequence[str]]) -> LedgerCounts:
        """Count files and entries."""
        return self._call("ledger.count", lambda: self._ledger.count(accepted))

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        """List records."""
        few = min(limit, 2)  # more than one page
        return self._call("ledger.find", lambda: self._ledger.find(query, after=after, limit=few))

    def read_controls(self) -> Controls:
        """Read the controls."""
        return self._call("ledger.read_controls", self._ledger.read_controls)

    def change_controls(self, change: ControlChange) -> Controls:
        """Change the controls."""
        return self._call("ledger.change_controls", lambda: self._home.change_controls(change))

    def sync(self) -> None:
        """Wait for the disk."""
        self._call("ledger.sync", self._ledger.sync)

    def close(self) -> None:
        """Do nothing: no connection is open."""


class FaultyQueue(_FaultyPort):
    """The queue as a process sees it: messages are duplicated, and acknowledgements lost."""

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Do nothing: whoever deploys a graph creates its subscriptions."""

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Publish messages."""
        self._call_each("queue.publish", envelopes, self._publish)

    def _publish(self, envelope: Envelope) -> None:
        home = self._caller.home
        if envelope.topic == DEAD_TOPIC:
            home.dead_letters.append(envelope)
            return
        self._checker.record_publish(self._caller, envelope)
        twice = self._world.draw_fault("duplicates", 0.1)
        if twice:
            self._checker.excuse_delivery(envelope)
        placed = home.place(envelope)
        if placed.topic in self._world.topics:  # else nobody reads it
            self._world.queue.publish([placed, placed] if twice else [placed])

    def pull(
        self, subscriptions: Sequence[str], *, limit: int, wait_s: float = 0.0
    ) -> list[ReceivedEnvelope]:
        """Return messages, the oldest first."""
        return self._call("queue.pull", lambda: self._pull(subscriptions, limit))

    def _pull(self, subscriptions: Sequence[str], limit: int) -> list[ReceivedEnvelope]:
        pulled = self._world.queue.pull(subscriptions, limit=limit)
        for one in pulled:
            self._check_first(one)
        return pulled

    def deliver(self, message_id: str) -> ReceivedEnvelope:
        """Return one message, in any order."""
        return self._call("queue.pull", lambda: self._deliver(message_id))

    def _deliver(self, message_id: str) -> ReceivedEnvelope:
        delivered = self._world.queue.deliver(message_id)
        self._check_first(delivered)
        return delivered

    def _check_first(self, one: ReceivedEnvelope) -> None:
        if not one.ack_id.endswith(".1"):
            self._checker.excuse_delivery(one)

    def acknowledge(self, envelopes: Sequence[ReceivedEnvelope]) -> None:
        """Remove messages."""
        kept = [d for d in envelopes if not self._world.draw_fault("duplicates", 0.1)]
        self._call_each("queue.acknowledge", kept, lambda d: self._world.queue.acknowledge([d]))

    def extend(self, envelopes: Sequence[ReceivedEnvelope], seconds: float) -> None:
        """Extend the deadlines of messages, or return them."""
        self._call("queue.extend", lambda: self._world.queue.extend(envelopes, seconds))

    def measure_depth(self, topics: Sequence[str]) -> Mapping[str, int] | None:
        """Count messages."""
        return self._call("queue.depth", lambda: self._world.queue.measure_depth(topics))

    def sync(self) -> None:
        """Wait for the disk."""
        self._call("queue.sync", self._world.queue.sync)

    def close(self) -> None:
        """Do nothing: no connection is open."""


class FaultyStore(_FaultyPort):
    """An object store as a process sees it."""

    def __init__(self, caller: Caller, store: ObjectStore) -> None:
        super().__init__(caller)
        self._store = store
        self.location = store.location

    def uri(self, name: str) -> str:
        """Return the URI of an object."""
        return self._store.uri(name)

    def list(
        self, prefix: str = "", *, after: str = "", leave_out: LeaveOut | None = None
    ) -> Iterator[Object]:
        """Stream objects by name."""
        return self._call(
            "store.list", lambda: self._store.list(prefix, after=after, leave_out=leave_out)
        )

    def stat(self, name: str) -> Object:
        """Describe one object."""
        return self._call("store.stat", lambda: self._store.stat(name))

    def identify(self, name: str) -> Object:
        """Describe one object."""
        return self._call("store.identify", lambda: self._store.identify(name))

    def doubt_absence(self, name: str, *, stat: str | None) -> LeftOutReason | None:
        """Return None: a missing object does not exist."""
        return self._store.doubt_absence(name, stat=stat)

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """Return an object's bytes."""
        return self._call("store.read", lambda: self._store.read(name, generation=generation))

    def read_part(
        self, name: str, *, start: int, length: int, generation: int | None = None
    ) -> bytes:
        """Return some of an object's bytes."""
        return self.read(name, generation=generation)[start : start + length]

    def fetch(self, name: str, *, version: str, stat: str | None, folder: str) -> str:
        """Write a copy into a folder."""
        return self._call(
            "store.fetch",
            lambda: self._fetch(name, version=version, stat=stat, folder=folder),
        )

    def _fetch(self, name: str, *, version: str, stat: str | None, folder: str) -> str:
        path = self._store.fetch(name, version=version, stat=stat, folder=folder)
        self._checker.check_source(self._caller, self.uri(name), version)
        return path

    def create(
        self,
        name: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        replace: bool = False,
        generation: int | None = None,
    ) -> bool:
        """Write an object."""
        return self._call(
            "store.create",
            lambda: self._store.create(
                name,
                data,
                content_type=content_type,
                metadata=metadata,
                replace=replace,
                generation=generation,
            ),
        )

    def sync(self) -> None:
        """Wait for the disk."""
        self._call("store.sync", self._store.sync)

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Remove an object."""
        return self._call("store.delete", lambda: self._delete(name, generation))

    def _delete(self, name: str, generation: int | None) -> bool:
        deleted = self._store.delete(name, generation=generation)
        if deleted:
            self._checker.check_deletion(self._caller, name)
        return deleted

    def close(self) -> None:
        """Do nothing: no connection is open."""
