"""Ensures that only one ``segue up`` uses a ledger; the lock ends with its process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from typing import TextIO

from segue.errors import ConfigurationError

SQLITE = "sqlite:///"


@contextlib.contextmanager
def lock_ledger(ledger: str) -> Iterator[None]:
    """Hold the lock of a ledger; raise an error that names the process that already has it."""
    import fcntl

    with _open_lock(find_lock_path(ledger)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigurationError(
                f"another 'segue up' (process {file.read(20) or '?'}) uses the ledger {ledger}; "
                "stop it, or name another ledger with --ledger"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _open_lock(path: str) -> TextIO:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{path!r} cannot be written ({error.strerror}); make its folder writable for this "
            "user, or name another ledger with --ledger"
        ) from error


def find_lock_path(ledger: str) -> str:
    """Return the path of a ledger's lock: beside the ledger, or in the temporary folder for one in
    the cloud.
    """
    if ledger.startswith(SQLITE):
        return os.path.realpath(os.path.expanduser(ledger.removeprefix(SQLITE))) + ".up"
    name = hashlib.blake2b(ledger.encode(), digest_size=8).hexdigest()
    return os.path.join(tempfile.gettempdir(), f"segue-up-{os.getuid()}-{name}")
