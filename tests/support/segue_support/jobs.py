"""Jobs that misbehave in every way a job can, to test what runs them.

Each does it with files whose name contains ``when``, and returns a plain value for all others.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from segue.errors import CorruptMedia, Unavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from segue.media.audio import Media

FOREVER_S = 3600.0
_kept: list[bytearray] = []


def _is_meant(media: Media, when: str) -> bool:
    return when in os.path.basename(media.uri)


def fine(media: Media) -> dict[str, Any]:
    """Return a small value."""
    return {"ok": media.uri is not None}


def after(value: dict[str, Any]) -> dict[str, Any]:
    """Return a small value, from a parent's."""
    return {"after": value}


def sleep(media: Media, *, seconds: float) -> dict[str, Any]:
    """Take a while."""
    time.sleep(seconds)
    return fine(media)


def hang(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Wait for ever."""
    if _is_meant(media, when):
        time.sleep(FOREVER_S)
    return fine(media)


def hang_deaf(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Wait for ever, and ignore every signal that can be ignored."""
    if _is_meant(media, when):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(FOREVER_S)
    return fine(media)


def hang_with_family(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Wait for ever for a process of its own; another one has left the process group.

    The numbers of both are written beside the media file.
    """
    if _is_meant(media, when):
        leave = (
            "import os, time; os.fork() and os._exit(0); os.setsid(); "
            "print(os.getpid(), flush=True); time.sleep(3600)"
        )
        with subprocess.Popen([sys.executable, "-c", leave], stdout=subprocess.PIPE) as stray:
            assert stray.stdout is not None
            stray_process = int(stray.stdout.readline())
            with subprocess.Popen(["sleep", str(int(FOREVER_S))]) as group:
                with open(f"{media.path}.processes", "w", encoding="ascii") as file:
                    file.write(f"{group.pid} {stray_process}")
                group.wait()
    return fine(media)


def raise_error(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Raise what no job should."""
    if _is_meant(media, when):
        raise TypeError("a list is not a tempo")
    return fine(media)


def recurse(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Call itself without end."""
    return recurse(media, when=when) if _is_meant(media, when) else fine(media)


def refuse(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Say that a file is damaged."""
    if _is_meant(media, when):
        raise CorruptMedia(f"{media.uri}: it is bad")
    return fine(media)


def leave(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Call sys.exit."""
    if _is_meant(media, when):
        sys.exit(3)
    return fine(media)


def leave_hard(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """End the process."""
    if _is_meant(media, when):
        os._exit(3)
    return fine(media)


def segfault(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Read what is nobody's memory."""
    if _is_meant(media, when):
        ctypes.string_at(0)
    return fine(media)


def segfault_after(value: dict[str, Any], media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Do so as a job with a parent."""
    return after(value) if not _is_meant(media, when) else segfault(media, when=when)


def kill_itself(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Die as if the kernel had run out of memory."""
    if _is_meant(media, when):
        os.kill(os.getpid(), signal.SIGKILL)
    return fine(media)


def eat_memory(media: Media, *, gib: float, when: str = "bad") -> dict[str, Any]:
    """Take much memory, and give it back."""
    taken = [bytearray(2**24) for _ in range(int(gib * 64) if _is_meant(media, when) else 0)]
    return {**fine(media), "taken": len(taken)}


def leak_memory(media: Media, *, mib: int) -> dict[str, Any]:
    """Take some memory, and keep it."""
    _kept.append(bytearray(b"x") * (mib * 2**20))
    return {"process": os.getpid(), **fine(media)}


def return_object(media: Media, *, when: str = "bad") -> Any:
    """Return what no content type holds."""
    return object() if _is_meant(media, when) else fine(media)


def return_coroutine(
    media: Media, *, when: str = "bad"
) -> dict[str, Any] | Coroutine[Any, Any, dict[str, Any]]:
    """Return a promise."""

    async def later() -> dict[str, Any]:
        return fine(media)

    return later() if _is_meant(media, when) else fine(media)


def print_much(media: Media) -> dict[str, Any]:
    """Write to standard output in every way there is."""
    print("from print")
    os.write(1, b"from the handle\n")
    subprocess.run(["echo", "from a process"], check=True)
    return fine(media)


def close_handles(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Close all handles but the standard ones."""
    if _is_meant(media, when):
        os.closerange(3, 256)
    return fine(media)


def fork(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Come back twice: from a copy of the process, too."""
    if _is_meant(media, when):
        os.fork()
    return fine(media)


def be_unavailable(media: Media, *, times: int, when: str = "bad") -> dict[str, Any]:
    """Raise a transient error so many times; they are counted in a file beside the media file."""
    if _is_meant(media, when):
        with open(f"{media.path}.tries", "a+", encoding="ascii") as file:
            file.write("x")
            file.seek(0)
            if len(file.read()) <= times:
                raise Unavailable("the model server is away")
    return fine(media)


def fill_disk(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Fail as if the device was full."""
    if _is_meant(media, when):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return fine(media)


def overwrite(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Return a value of a file that is overwritten meanwhile."""
    if _is_meant(media, when):
        with open(media.path, "ab") as file:
            file.write(b"more")
    return fine(media)


def remove(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Return a value of a file that is deleted meanwhile."""
    if _is_meant(media, when):
        os.unlink(media.path)
    return fine(media)


def change_input(value: dict[str, Any]) -> dict[str, Any]:
    """Change what it was given, and return it."""
    value["changed"] = True
    return value


class Model:
    """Loads something once a process, and tells which process and how often."""

    def __init__(self, *, weights: str = "") -> None:
        self.weights = weights
        self.times = 0

    def setup(self) -> None:
        """Load."""
        self.times += 1
        if self.weights == "hang":
            time.sleep(FOREVER_S)
        if self.weights == "crash":
            os._exit(9)
        if self.weights == "missing":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "weights.bin")

    def __call__(self, media: Media) -> dict[str, Any]:
        """Tell."""
        return {"process": os.getpid(), "setups": self.times, "file": media.uri[-4:]}


class Batched:
    """Takes many files at once, and fails as a whole if one is bad."""

    batch_size = 8

    def __init__(self, *, how: str = "raise") -> None:
        self.how = how

    def batch(self, inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Tell of how many files there were."""
        if any(_is_meant(i["media"], "bad") for i in inputs):
            if self.how == "crash":
                os._exit(3)
            if self.how == "hang":
                time.sleep(FOREVER_S)
            raise ValueError("a batch is as good as its worst file")
        return [{"files": len(inputs)} for _ in inputs]
