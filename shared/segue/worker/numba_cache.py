"""What numba compiles, kept for later runs, without its races.

numba writes a function and what refers to it into different files of one folder. Two processes that
compile at the same time leave files of which one refers to code that the other has overwritten;
from then on every process that loads them dies of a segmentation fault. So every process here has
a folder of its own, which begins as a copy of what an earlier run has left, and one that has
compiled something new leaves its folder, whole, in the place of that.

Where ``NUMBA_CACHE_DIR`` is set, as in an image that has everything compiled, that is copied from,
and nothing is left.

``python -m segue.worker.numba_cache jobs.yaml`` compiles ahead what the jobs of a graph need.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator

VARIABLE = "NUMBA_CACHE_DIR"
NAME = "compiled"
MAX_BYTES = 256 * 2**20  # more than this has been left by too many versions: begin anew


def use_own(folder: str) -> str:
    """Let this process keep what it compiles in a folder of its own; returns that."""
    own = os.path.join(folder, NAME)
    given = os.environ.get(VARIABLE)
    if given == own:  # this process began anew
        return own
    os.makedirs(own, exist_ok=True)
    if given:
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(given, own, dirs_exist_ok=True)
    else:
        with (
            contextlib.suppress(OSError, tarfile.TarError),
            tarfile.open(archive_path()) as archive,
        ):
            archive.extractall(own, filter="data")
    _point_to(own)
    return own


def fork_own(folder: str) -> None:
    """Give a child that was just forked its own copy of what its parent has."""
    own = os.path.join(folder, NAME)
    with contextlib.suppress(OSError, shutil.Error, KeyError):
        shutil.copytree(os.environ[VARIABLE], own, dirs_exist_ok=True)
    _point_to(own)


def leave(folders: Iterable[str]) -> None:
    """Leave for later runs the fullest of some processes' folders, if it holds more than was there.

    Only those of processes that have ended, or that have forked none yet, are at rest.
    """
    fullest = max(folders, key=_count, default=None)
    if fullest is not None and _count(fullest) > _count_left():
        _replace_archive(fullest)


def _replace_archive(folder: str) -> None:
    path = archive_path()
    with contextlib.suppress(OSError):  # a place to keep things is a convenience
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=os.path.dirname(path))
        try:
            with open(handle, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
                archive.add(folder, arcname=".")
            if os.path.getsize(unfinished) <= MAX_BYTES:
                os.replace(unfinished, path)
            else:
                os.unlink(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)


@contextlib.contextmanager
def own_for_this_process() -> Iterator[str]:
    """Keep what this process compiles in a folder of its own, which is removed in the end.

    The variable stays set meanwhile: numba reads it again when it compiles.
    """
    given = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="segue-numba-") as folder:
        own = use_own(folder)
        try:
            yield own
        finally:
            if given is None:
                leave([own])
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = given


def fill(path: str) -> None:
    """Compile ahead what the jobs of a graph need, and leave it for later runs.

    Of several processes that are asked for the same, one compiles, and the others wait for it.
    """
    from segue.model import graph as graphs
    from segue.model.job_code import make_importable
    from segue.worker.preload import load, named_by

    graph = graphs.load(path)
    make_importable(graph)
    os.makedirs(os.path.dirname(archive_path()), exist_ok=True)
    with open(f"{archive_path()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ.pop(VARIABLE, None)
        with own_for_this_process() as own:
            for module in dict.fromkeys(j.run.partition(":")[0] for j in graph.jobs.values()):
                load(module)
                for name in named_by(module):
                    load(name)
            _replace_archive(own)  # a newer numba replaces files, and adds none


def archive_path() -> str:
    """Where a run leaves what it compiled: a file a Python environment, in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    place = f"{sys.prefix} {sys.version}"
    return os.path.join(
        home, "segue", f"{NAME}-{hashlib.sha256(place.encode()).hexdigest()[:16]}.tar"
    )


def _point_to(own: str) -> None:
    os.environ[VARIABLE] = own
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = own


def _count(folder: str) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def _count_left() -> int:
    try:
        with tarfile.open(archive_path()) as archive:
            return sum(member.isfile() for member in archive)
    except (OSError, tarfile.TarError):
        return 0


if __name__ == "__main__":
    fill(sys.argv[1])
