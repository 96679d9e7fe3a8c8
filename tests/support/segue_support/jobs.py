"""Jobs that fail in every way a job can, to test the worker.

Each fails for files whose name contains ``when``, and returns a plain value for all others.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from segue.errors import CorruptMedia, NotApplicable, Unavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from pathlib import Path

    from segue.media.audio import Media

FOREVER_S = 3600.0
_leaked: list[bytearray] = []


def _is_bad(media: Media, when: str) -> bool:
    return when in os.path.basename(media.uri)


def fine(media: Media) -> dict[str, Any]:
    """Return a small value."""
    return {"ok": media.uri is not None}


def weigh_model(media: Media, *, model: Path) -> dict[str, Any]:
    """Return the size of a model."""
    return {**fine(media), "size_bytes": model.stat().st_size}


def colour(media: Media) -> dict[str, Any]:
    """Return the mean colour of an image."""
    return {"rgb": media.image().mean(axis=(0, 1))}


def colours(media: Media) -> dict[str, Any]:
    """Return the mean colours of the key frames of a film."""
    return {"rgb": [rgb.mean(axis=(0, 1)) for _, rgb in media.frames()]}


def after(value: dict[str, Any]) -> dict[str, Any]:
    """Return a small value, from a parent's."""
    return {"after": value}


def split(media: Media) -> dict[str, Any]:
    """Return the values of two outputs, ``name`` and ``bytes``."""
    return {"name": {"of": os.path.basename(media.uri)}, "bytes": b"12"}


def decline(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Decide that it is not for the file."""
    if _is_bad(media, when):
        raise NotApplicable("there is nothing in it")
    return fine(media)


def sleep(media: Media, *, seconds: float) -> dict[str, Any]:
    """Sleep, then return."""
    time.sleep(seconds)
    return fine(media)


def hang(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Hang."""
    if _is_bad(media, when):
        time.sleep(FOREVER_S)
    return fine(media)


def hang_and_ignore_signals(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Hang, and ignore every signal that can be ignored."""
    if _is_bad(media, when):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(FOREVER_S)
    return fine(media)


def hang_with_processes(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Hang while a child process runs; another one has left the process group.

    The process ids of both are written beside the media file.
    """
    if _is_bad(media, when):
        code = (
            "import os, time; os.fork() and os._exit(0); os.setsid(); "
            "print(os.getpid(), flush=True); time.sleep(3600)"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as orphan:
            assert orphan.stdout is not None
            orphan_process = int(orphan.stdout.readline())
            with subprocess.Popen(["sleep", str(int(FOREVER_S))]) as group:
                with open(f"{media.path}.processes", "w", encoding="ascii") as file:
                    file.write(f"{group.pid} {orphan_process}")
                group.wait()
    return fine(media)


def raise_error(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Raise an unexpected error."""
    if _is_bad(media, when):
        raise TypeError("a list is not a tempo")
    return fine(media)


def recurse(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Call itself without end."""
    return recurse(media, when=when) if _is_bad(media, when) else fine(media)


def refuse(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Report that the file is damaged."""
    if _is_bad(media, when):
        raise CorruptMedia(f"{media.uri}: it is bad")
    return fine(media)


def exit_python(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Call sys.exit."""
    if _is_bad(media, when):
        sys.exit(3)
    return fine(media)


def exit_process(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Exit the process without cleanup."""
    if _is_bad(media, when):
        os._exit(3)
    return fine(media)


def segfault(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Read from an invalid address."""
    if _is_bad(media, when):
        ctypes.string_at(0)
    return fine(media)


def segfault_after(value: dict[str, Any], media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Read from an invalid address, as a job with a parent."""
    return after(value) if not _is_bad(media, when) else segfault(media, when=when)


def kill_itself(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Kill the process, as the kernel does when memory runs out."""
    if _is_bad(media, when):
        os.kill(os.getpid(), signal.SIGKILL)
    return fine(media)


def allocate_memory(media: Media, *, gib: float, when: str = "bad") -> dict[str, Any]:
    """Allocate much memory, and release it."""
    blocks = [bytearray(2**24) for _ in range(int(gib * 64) if _is_bad(media, when) else 0)]
    return {**fine(media), "taken": len(blocks)}


def leak_memory(media: Media, *, mib: int) -> dict[str, Any]:
    """Allocate memory, and keep it."""
    _leaked.append(bytearray(b"x") * (mib * 2**20))
    return {"process": os.getpid(), **fine(media)}


def return_object(media: Media, *, when: str = "bad") -> Any:
    """Return a value that no content type can encode."""
    return object() if _is_bad(media, when) else fine(media)


def return_coroutine(
    media: Media, *, when: str = "bad"
) -> dict[str, Any] | Coroutine[Any, Any, dict[str, Any]]:
    """Return a coroutine."""

    async def later() -> dict[str, Any]:
        return fine(media)

    return later() if _is_bad(media, when) else fine(media)


def print_much(media: Media) -> dict[str, Any]:
    """Write to standard output in every possible way."""
    print("from print")
    os.write(1, b"from the descriptor\n")
    subprocess.run(["echo", "from a process"], check=True)
    return fine(media)


def close_descriptors(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Close all file descriptors, even the standard ones."""
    if _is_bad(media, when):
        os.closerange(0, 256)
    return fine(media)


def write_to_descriptors(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Write to all file descriptors except the standard ones."""
    for fd in range(3, 256 if _is_bad(media, when) else 3):
        with contextlib.suppress(OSError):
            os.write(fd, b"\xc1" * 100)
    return fine(media)


def fork(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Fork, and return in both processes."""
    if _is_bad(media, when):
        os.fork()
    return fine(media)


def disconnect(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Raise an error of Python's own that is transient."""
    if _is_bad(media, when):
        raise ConnectionResetError("the model server is gone")
    return fine(media)


def be_unavailable(media: Media, *, times: int, when: str = "bad") -> dict[str, Any]:
    """Raise a transient error so many times, counted in a file beside the media file."""
    if _is_bad(media, when):
        with open(f"{media.path}.tries", "a+", encoding="ascii") as file:
            file.write("x")
            file.seek(0)
            if len(file.read()) <= times:
                raise Unavailable("the model server is away")
    return fine(media)


def fill_disk(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Fail as if the disk were full."""
    if _is_bad(media, when):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return fine(media)


def overwrite(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Return a value, but overwrite the file first."""
    if _is_bad(media, when):
        with open(media.path, "ab") as file:
            file.write(b"more")
    return fine(media)


def remove(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Return a value, but delete the file first."""
    if _is_bad(media, when):
        os.unlink(media.path)
    return fine(media)


def change_input(value: dict[str, Any]) -> dict[str, Any]:
    """Change the input in place, and return it."""
    value["changed"] = True
    return value


class Model:
    """Counts its setups; returns the count and its process id."""

    def __init__(self, *, weights: str = "") -> None:
        self.weights = weights
        self.times = 0

    def setup(self) -> None:
        """Count the call; hang, crash or fail if ``weights`` says so."""
        self.times += 1
        if self.weights == "hang":
            time.sleep(FOREVER_S)
        if self.weights == "crash":
            os._exit(9)
        if self.weights == "missing":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "weights.bin")

    def __call__(self, media: Media) -> dict[str, Any]:
        """Return the process id and the number of setups."""
        return {"process": os.getpid(), "setups": self.times, "file": media.uri[-4:]}


class Batched:
    """Takes many files per call, and fails as a whole if one is bad."""

    batch_size = 8

    def __init__(self, *, how: str = "raise") -> None:
        self.how = how

    def batch(self, inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the size of the batch for each file."""
        if any(_is_bad(i["media"], "bad") for i in inputs):
            if self.how == "crash":
                os._exit(3)
            if self.how == "hang":
                time.sleep(FOREVER_S)
            raise ValueError("a batch is as good as its worst file")
        return [{"files": len(inputs)} for _ in inputs]


class Unprintable(Exception):
    """An exception whose message cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def raise_unprintable(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Raise an exception that fails when it is shown."""
    if _is_bad(media, when):
        raise Unprintable
    return fine(media)


def interrupt(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Raise what Ctrl-C raises."""
    if _is_bad(media, when):
        raise KeyboardInterrupt
    return fine(media)


def kill_parent(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Kill the process that supervises this one."""
    if _is_bad(media, when):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(FOREVER_S)
    return fine(media)


def stop_parent(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Stop the process that supervises this one, as Ctrl-Z does."""
    if _is_bad(media, when):
        os.kill(os.getppid(), signal.SIGSTOP)
    return fine(media)


def kill_itself_in_company(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Kill the process unless it is the only one that runs a job, as too little memory does.

    Who runs one is noted in files beside the media file.
    """
    mine = f"{media.path}.running"
    with open(mine, "w", encoding="ascii"):
        time.sleep(0.1)
    others = [n for n in os.listdir(os.path.dirname(media.path)) if n.endswith(".running")]
    if _is_bad(media, when) and len(others) > 1:
        os.unlink(mine)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    os.unlink(mine)
    return {"beside": len(others) - 1}


def break_module(media: Media, *, when: str = "bad") -> dict[str, Any]:
    """Break a function that everything needs to write a file, for as long as the process lives."""
    if _is_bad(media, when):
        json.dumps = None  # type: ignore[assignment]
    return fine(media)
