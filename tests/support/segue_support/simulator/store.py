"""An object store in memory, whose generations are numbered from 1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.clock import Clock, utc_now
from segue.errors import MissingInput, Superseded
from segue.model.object_store import Object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segue.model.object_store import LeaveOut, LeftOutReason


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredObject:
    data: bytes
    info: Object


class MemoryStore:
    """Objects by name; ``location`` is a bucket with or without a prefix."""

    def __init__(self, location: str, *, clock: Clock = utc_now) -> None:
        self.location = location
        self._clock = clock
        self._objects: dict[str, _StoredObject] = {}
        self._generation = 0

    def uri(self, name: str) -> str:
        """Return the URI of an object."""
        return f"{self.location}/{name}"

    def has(self, name: str) -> bool:
        """Whether there is an object of a name."""
        return name in self._objects

    def list(
        self,
        prefix: str = "",
        *,
        after: str = "",
        leave_out: LeaveOut | None = None,
    ) -> Iterator[Object]:
        """Stream objects by name."""
        for name in sorted(self._objects):
            stored = self._objects.get(name)  # others may delete while this one lists
            if stored is not None and name.startswith(prefix) and name > after:
                yield stored.info

    def stat(self, name: str) -> Object:
        """Describe one object."""
        return self._find(name).info

    def identify(self, name: str) -> Object:
        """Describe one object; its generation identifies its content."""
        return self._find(name).info

    def doubt_absence(self, name: str, *, stat: str | None) -> LeftOutReason | None:
        """Return None: a missing object does not exist."""

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """Return an object's bytes."""
        return self._find(name, generation).data

    def read_part(
        self, name: str, *, start: int, length: int, generation: int | None = None
    ) -> bytes:
        """Return some of an object's bytes."""
        return self.read(name, generation=generation)[start : start + length]

    def fetch(self, name: str, *, version: str, stat: str | None, folder: str) -> str:
        """Write a copy into a folder."""
        path = os.path.join(folder, os.path.basename(name))
        with open(path, "wb") as file:
            file.write(self._find(name, int(version)).data)
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
        """Write an object if the name is free, or with ``replace``."""
        kept = self._objects.get(name)
        if kept is not None and not replace:
            return False
        if generation is not None and (kept is None or kept.info.generation != generation):
            return False
        self._generation += 1
        info = Object(
            name=name,
            generation=self._generation,
            size_bytes=len(data),
            content_type=content_type,
            updated_at=self._clock().timestamp(),
            metadata=metadata,
        )
        self._objects[name] = _StoredObject(data=data, info=info)
        return True

    def sync(self) -> None:
        """Do nothing: no simulated machine loses its power."""

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Remove an object."""
        kept = self._objects.get(name)
        if kept is None or generation not in (None, kept.info.generation):
            return False
        del self._objects[name]
        return True

    def close(self) -> None:
        """Do nothing: no connection is open."""

    def _find(self, name: str, generation: int | None = None) -> _StoredObject:
        kept = self._objects.get(name)
        if kept is None:
            raise MissingInput(f"there is no object {self.uri(name)!r}; it may have been deleted")
        if generation not in (None, kept.info.generation):
            raise Superseded(
                f"{self.uri(name)!r} has generation {kept.info.generation}, not {generation}; "
                "it was overwritten"
            )
        return kept
