"""A file system in memory, whose files may be what they were before, with all their properties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.errors import MissingInput, Superseded
from segue.model.object_store import Object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from segue.model.object_store import LeaveOut, LeftOutReason

CONTENTS = ("a0", "b0", "c0")  # few, so that they come back


@dataclass(frozen=True, slots=True)
class _StoredFile:
    """A file; moving it, or its folder, leaves it as it is."""

    content: str  # stands for its own hash
    stat: str


class MemoryFolder:
    """The files of a file system, as ``FolderStore`` shows them."""

    location = "file:///"

    def __init__(self) -> None:
        self._files: dict[str, _StoredFile] = {}
        self._known: dict[str, list[_StoredFile]] = {}  # all that were ever there, by name
        self._changes = 0

    # What happens to files.

    def write(self, name: str, rng: Random) -> None:
        """Write a file, with a content that may have been there before."""
        self._put(name, rng.choice(CONTENTS))

    def touch(self, name: str) -> None:
        """Change the status of a file, as ``chmod`` does, and not its content."""
        if name in self._files:
            self._put(name, self._files[name].content)

    def remove(self, name: str) -> bool:
        """Move a file away; return whether it was there."""
        return self._files.pop(name, None) is not None

    def bring_back(self, name: str, rng: Random) -> bool:
        """Bring back a file that was there before, in place of any other; return whether one was.

        This is what happens to all files of a folder that is swapped for an older one.
        """
        if known := self._known.get(name):
            self._files[name] = rng.choice(known)
        return bool(known)

    def _put(self, name: str, content: str) -> None:
        self._changes += 1
        self._files[name] = _StoredFile(content, f"0:{self._changes}:1:1:1")
        self._known.setdefault(name, []).append(self._files[name])

    def find_content(self, name: str) -> str | None:
        """Return the content of a file; None if there is none."""
        found = self._files.get(name)
        return found.content if found is not None else None

    # The store.

    def uri(self, name: str) -> str:
        """Return the URI of a file."""
        return f"{self.location}{name}"

    def list(
        self,
        prefix: str = "",
        *,
        after: str = "",
        leave_out: LeaveOut | None = None,
    ) -> Iterator[Object]:
        """Stream files by name."""
        for name in sorted(self._files):
            if name.startswith(prefix) and name > after:
                yield self._build_object(name, self._files[name])

    def stat(self, name: str) -> Object:
        """Describe one file, without reading it."""
        return self._build_object(name, self._find(name))

    def identify(self, name: str) -> Object:
        """Read one file."""
        found = self._find(name)
        return self._build_object(name, found, digest=found.content)

    def doubt_absence(self, name: str, *, stat: str | None) -> LeftOutReason | None:
        """Return None: all disks are mounted."""
        return None

    def fetch(self, name: str, *, version: str, stat: str | None, folder: str) -> str:
        """Return a file's path if it has a content; with its status as before, it is not read."""
        found = self._find(name)
        if found.stat != stat and found.content != version:
            raise Superseded(f"{name!r} has content {found.content}, not {version}")
        return f"/{name}"

    def close(self) -> None:
        """Do nothing: no folder is open."""

    def _find(self, name: str) -> _StoredFile:
        if name not in self._files:
            raise MissingInput(f"there is no file {name!r}") from FileNotFoundError()
        return self._files[name]

    def _build_object(self, name: str, found: _StoredFile, digest: str = "") -> Object:
        return Object(name=name, generation=1, size_bytes=1, stat=found.stat, digest=digest)
