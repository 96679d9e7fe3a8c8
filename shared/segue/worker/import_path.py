"""From where child processes import: never from the current folder, unless it is named.

Python puts the current folder first on the path of ``python -c`` and ``python -m``, and of a
session. A catalogue's folder may hold anything, and what is called ``random.py`` there must not be
taken for the standard library's. A folder in ``PYTHONPATH`` or of an installed package is named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

VARIABLE = "PYTHONPATH"


def list_folders() -> tuple[list[str], list[str]]:
    """Return the folders of this process's path, and those that others get only if they are named.

    The latter are names of the current folder.
    """
    folders = [os.path.abspath(folder) for folder in sys.path]
    return folders, [folder for folder in folders if _is_current(folder)]


def build_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the empty parts of ``PYTHONPATH``: they are the current folder.

    ``PYTHONPATH=$PYTHONPATH:/jobs`` has one by accident.
    """
    cleaned = dict(environment)
    if VARIABLE in cleaned:
        cleaned[VARIABLE] = os.pathsep.join(filter(None, cleaned[VARIABLE].split(os.pathsep)))
    return cleaned


def _is_current(folder: str) -> bool:
    try:
        return os.path.samefile(folder, os.curdir)
    except OSError:
        return False
