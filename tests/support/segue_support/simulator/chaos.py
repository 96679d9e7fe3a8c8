"""The ports as a process sees them: each call may be late, fail, be done by halves, or be its last.

Before each call others may go first, as far as they like: so any step of one process stands between
any two of another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeVar

from segue.errors import Contended, Unavailable
from segue.model.queue import DEAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from segue.model.ledger import Change, Changed, Counts, Query, Snapshot
    from segue.model.object_store import Object
    from segue.model.queue import Delivery, Letter
    from segue.model.record import Record
    from segue_support.simulator.actors import Actor
    from segue_support.simulator.store import MemoryStore
    from segue_support.simulator.world import World

T = TypeVar("T")


class Killed(BaseException):  # no handler may survive it
    """The process that made this call is dead."""


class Fate(Enum):
    """What becomes of one call of a port."""

    GOOD = auto()
    DEAD_BEFORE = auto()
    DEAD_AFTER = auto()
    AWAY_BEFORE = auto()
    AWAY_AFTER = auto()  # it was done, and nobody was told


DEADLY = frozenset({Fate.DEAD_BEFORE, Fate.DEAD_AFTER})
AFTER = frozenset({Fate.DEAD_AFTER, Fate.AWAY_AFTER})


class _Port:
    def __init__(self, world: World, actor: Actor) -> None:
        self._world = world
        self._actor = actor

    def _call(self, what: str, effect: Callable[[], T]) -> T:
        fate = self._world.fate(self._actor)
        if fate is Fate.GOOD:
            return effect()
        if fate in AFTER:
            effect()
        raise self._ends(what, fate)

    def _call_each(self, what: str, things: Sequence[Any], effect: Callable[[Any], T]) -> list[T]:
        """One call that does many things, of which some may be done when it fails."""
        fate = self._world.fate(self._actor)
        if fate is Fate.GOOD:
            return [effect(thing) for thing in things]
        done = self._world.rng.randint(0, len(things)) if fate in AFTER else 0
        for thing in things[:done]:
            effect(thing)
        raise self._ends(f"{what}, {done} of {len(things)} done", fate)

    def _ends(self, what: str, fate: Fate) -> BaseException:
        self._world.note(self._actor.name, f"{fate.name.lower().replace('_', ' ')} {what}")
        if fate in DEADLY:
            return Killed(what)
        if what.startswith("ledger.change") and self._world.rng.random() < 0.5:
            return Contended("others were faster, each time; try again")
        return Unavailable("the server is away; try again")


class ChaoticLedger(_Port):
    """The ledger as a process sees it; every write is looked at by the world's watch."""

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Read many records."""
        return self._call("ledger.read", lambda: self._world.ledger.read(uris))

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        """Apply each transition; like a real store, more often than once if others were faster."""
        if len({c.uri for c in changes}) != len(changes):
            raise AssertionError("the URIs of one call must be distinct")
        return self._call_each("ledger.change", changes, self._change) if changes else []

    def _change(self, change: Change[T]) -> Changed[T]:
        ledger = self._world.ledger
        (before,) = ledger.read([change.uri])
        if change.known is not None and change.known.revision != before.revision:
            change.transition(change.known.record)  # and then the store says that it is not
        (changed,) = ledger.change([change])
        if changed.snapshot.revision != before.revision:
            assert changed.snapshot.record is not None
            self._world.watch.wrote(self._actor, before.record, changed.snapshot.record)
        return changed

    def count(self, accepted: Mapping[str, Iterable[str]]) -> Counts:
        """Count files and entries."""
        return self._call("ledger.count", lambda: self._world.ledger.count(accepted))

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        """List records."""
        few = min(limit, 2)  # so that there are pages
        return self._call(
            "ledger.find", lambda: self._world.ledger.find(query, after=after, limit=few)
        )

    def close(self) -> None:
        """Nothing is held open."""


class ChaoticQueue(_Port):
    """The queue as a process sees it: letters come twice, and acknowledgements get lost."""

    def publish(self, letters: Sequence[Letter]) -> None:
        """Keep letters."""
        self._call_each("queue.publish", letters, self._publish)

    def _publish(self, letter: Letter) -> None:
        if letter.topic.endswith(DEAD):
            self._world.dead_letters.append(letter)
            return
        self._world.watch.published(self._actor, letter)
        twice = self._world.happens("copies", 0.1)
        self._world.queue.publish([letter, letter] if twice else [letter])

    def pull(self, topics: Sequence[str], *, limit: int, wait_s: float = 0.0) -> list[Delivery]:
        """Hand over letters, the oldest first."""
        return self._call(
            "queue.pull", lambda: self._world.queue.pull(topics, limit=limit, wait_s=0 * wait_s)
        )

    def deliver(self, message_id: str) -> Delivery:
        """Hand over one letter, in no order."""
        return self._call("queue.pull", lambda: self._world.queue.deliver(message_id))

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Remove letters."""
        kept = [d for d in deliveries if not self._world.happens("copies", 0.1)]
        self._call_each("queue.acknowledge", kept, lambda d: self._world.queue.acknowledge([d]))

    def extend(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Hide letters for longer, or no longer."""
        self._call("queue.extend", lambda: self._world.queue.extend(deliveries, seconds))

    def depth(self, topics: Sequence[str]) -> Mapping[str, int] | None:
        """Count letters."""
        return self._call("queue.depth", lambda: self._world.queue.depth(topics))

    def close(self) -> None:
        """Nothing is held open."""


class ChaoticStore(_Port):
    """An object store as a process sees it."""

    def __init__(self, world: World, actor: Actor, store: MemoryStore) -> None:
        super().__init__(world, actor)
        self._store = store
        self.location = store.location

    def uri(self, name: str) -> str:
        """The URI of an object."""
        return self._store.uri(name)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[Object]:
        """Stream objects by name."""
        return self._call("store.list", lambda: self._store.list(prefix, after=after))

    def stat(self, name: str) -> Object:
        """Tell of one object."""
        return self._call("store.stat", lambda: self._store.stat(name))

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """Return an object's bytes."""
        return self._call("store.read", lambda: self._store.read(name, generation=generation))

    def local(self, name: str, *, generation: int, folder: str) -> str:
        """Write a copy into a folder."""
        return self._call(
            "store.local", lambda: self._store.local(name, generation=generation, folder=folder)
        )

    def create(
        self,
        name: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        replace: bool = False,
    ) -> bool:
        """Write an object."""
        return self._call(
            "store.create",
            lambda: self._store.create(
                name, data, content_type=content_type, metadata=metadata, replace=replace
            ),
        )

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Remove an object."""
        return self._call("store.delete", lambda: self._store.delete(name, generation=generation))

    def close(self) -> None:
        """Nothing is held open."""
