"""Sees that only one ``segue up`` works on a ledger; the lock ends with its holder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator

from segue.errors import ConfigurationError

SQLITE = "sqlite:///"


@contextlib.contextmanager
def only_one(ledger: str) -> Iterator[None]:
    """Hold the lock of a ledger, or say who does."""
    import fcntl

    path = lock_path(ledger)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigurationError(
                f"'segue up' works on the ledger {ledger} already (process {file.read(20) or '?'});"
                " stop it first, or name another ledger with --ledger"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def lock_path(ledger: str) -> str:
    """Where the lock of a ledger is: beside it, or for one in the cloud on this machine."""
    if ledger.startswith(SQLITE):
        return os.path.realpath(os.path.expanduser(ledger.removeprefix(SQLITE))) + ".up"
    name = hashlib.blake2b(ledger.encode(), digest_size=8).hexdigest()
    return os.path.join(tempfile.gettempdir(), f"segue-up-{os.getuid()}-{name}")
