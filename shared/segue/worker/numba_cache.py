"""Keeps what numba compiles for later runs, and avoids the races of numba's cache.

numba writes a function and its index into different files of one folder. If two processes compile
at the same time, an index can refer to code that the other process has overwritten; every process
that loads it from then on dies of a segmentation fault. So each process here has a cache folder of
its own. The folder starts as a copy of what an earlier run has saved; a process that has compiled
something new saves its whole folder in place of that.

If ``NUMBA_CACHE_DIR`` is set, as in an image in which everything is compiled, the folder starts as
a copy of that one, and nothing is saved.

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
MAX_BYTES = 256 * 2**20  # a larger archive has collected too many versions: start again


def use_private_cache(folder: str) -> str:
    """Give this process a numba cache folder of its own, and return the folder.

    A forked child copies its parent's.
    """
    own = os.path.join(folder, NAME)
    given = os.environ.get(VARIABLE)
    if given == own:  # this process has restarted itself
        return own
    os.makedirs(own, exist_ok=True)
    if given:
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(given, own, dirs_exist_ok=True)
    else:
        with (
            contextlib.suppress(OSError, tarfile.TarError),
            tarfile.open(locate_archive()) as archive,
        ):
            archive.extractall(own, filter="data")
    _set_cache_folder(own)
    return own


def save(folders: Iterable[str]) -> None:
    """Save the fullest of the cache folders for later runs, if it has more files than the archive.

    The folders must be at rest: their processes have ended, or have not forked any yet.
    """
    fullest = max(folders, key=_count_files, default=None)
    if fullest is not None and _count_files(fullest) > _count_archived():
        _replace_archive(fullest)


def _replace_archive(folder: str) -> None:
    path = locate_archive()
    with contextlib.suppress(OSError):  # runs work without an archive
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd, unfinished = tempfile.mkstemp(dir=os.path.dirname(path))
        try:
            with open(fd, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
                archive.add(folder, arcname=".")
            if os.path.getsize(unfinished) <= MAX_BYTES:
                os.replace(unfinished, path)
            else:
                os.unlink(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)


@contextlib.contextmanager
def use_temporary_cache() -> Iterator[str]:
    """Give this process a numba cache folder of its own inside the ``with`` block.

    ``NUMBA_CACHE_DIR`` stays set inside: numba reads it again whenever it compiles.
    """
    given = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="segue-numba-") as folder:
        own = use_private_cache(folder)
        try:
            yield own
        finally:
            if given is None:
                save([own])
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = given
            if "numba" in sys.modules:
                sys.modules["numba"].config.CACHE_DIR = given or ""


def compile_ahead(path: str) -> None:
    """Compile what the jobs of a graph need, and save it for later runs.

    If several processes do this at once, one compiles, and the others wait for it.
    """
    from segue.model import graph as graphs
    from segue.model.job_code import make_importable
    from segue.worker.preload import find_preloads, load_ahead

    graph = graphs.read_graph(path)
    make_importable(graph)
    os.makedirs(os.path.dirname(locate_archive()), exist_ok=True)
    with open(f"{locate_archive()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ.pop(VARIABLE, None)
        with use_temporary_cache() as own:
            for module in dict.fromkeys(j.run.partition(":")[0] for j in graph.jobs.values()):
                load_ahead(module)
                for name in find_preloads(module):
                    load_ahead(name)
            _replace_archive(own)  # even if it has no more files: a newer numba replaces them


def locate_archive() -> str:
    """Return the path of the archive: one file per Python environment, in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    environment = f"{sys.prefix} {sys.version}"
    return os.path.join(
        home, "segue", f"{NAME}-{hashlib.sha256(environment.encode()).hexdigest()[:16]}.tar"
    )


def _set_cache_folder(own: str) -> None:
    os.environ[VARIABLE] = own
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = own


def _count_files(folder: str) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def _count_archived() -> int:
    try:
        with tarfile.open(locate_archive()) as archive:
            return sum(member.isfile() for member in archive)
    except (OSError, tarfile.TarError):
        return 0


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder: nothing in it may be imported
    compile_ahead(sys.argv[1])
