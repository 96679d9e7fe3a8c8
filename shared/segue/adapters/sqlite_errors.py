"""Translates the errors of SQLite, and of making its file, into Segue's."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from segue.errors import ConfigurationError, Contended, DiskFull, Unavailable


@contextlib.contextmanager
def translate_sqlite_errors(
    path: str, *, noun: str, variable: str, if_damaged: str
) -> Iterator[None]:
    """Translate the errors of a database file, which is a ``noun`` and is set by a ``variable``."""
    elsewhere = f"set {variable} to another path"
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise Contended(
                f"the {noun} {path!r} is locked by another process ({text}); try again when it "
                "has finished"
            ) from error
        if "full" in text:
            raise DiskFull(
                f"no room is left for the {noun} {path!r}; free some space, and run again"
            ) from error
        if "unable to open" in text or "readonly" in text:
            raise ConfigurationError(
                f"the {noun} {path!r} is not writable ({text}); {elsewhere}"
            ) from error
        raise Unavailable(f"the {noun} {path!r}: {text}; try again later") from error
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(
            f"{path!r} is not a {noun}, or is damaged ({error}); {if_damaged}, or {elsewhere}"
        ) from error
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"the {noun} {path!r} cannot be made ({error.strerror}); {elsewhere}"
        ) from error
