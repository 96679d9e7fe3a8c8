"""The artifacts of a store, file by file.

The artifacts of one file lie in as many folders as there are jobs and fingerprints. These folders
are listed side by side, in the order of the files, so that memory stays flat.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from segue.errors import ConfigurationError
from segue.model.artifact import ArtifactName, parse_artifact_name
from segue.model.graph import FINGERPRINT, NAME
from segue.model.object_store import Object, ObjectStore

LAST = "\U0010ffff"  # comes behind all names that go on


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object that is an artifact by its name."""

    name: ArtifactName
    object: Object


def list_by_file(store: ObjectStore) -> Iterator[tuple[str, list[Listed]]]:
    """Stream the names of files (quoted, as artifacts have them), each with all its artifacts.

    A file comes twice if another's name starts with its own and a slash; no artifact does.
    """
    folders = list(_folders(store))
    streams = [_in_folder(store, folder) for folder in folders]
    merged = heapq.merge(*streams, key=lambda found: found[0])
    for file, some in groupby((listed for _, listed in merged), key=lambda one: one.name.file):
        yield file, list(some)


def _folders(store: ObjectStore) -> Iterator[str]:
    """The folders of a job and a fingerprint, each found by leaping behind the one before."""
    known, leap = "", ""
    while True:
        for found in store.list(after=leap):
            job, _, rest = found.name.partition("/")
            fingerprint, slash, _ = rest.partition("/")
            folder = f"{job}/{fingerprint}/"
            if not (slash and NAME.fullmatch(job) and FINGERPRINT.fullmatch(fingerprint)):
                continue
            if folder != known:  # else a name that is no text stands behind all that are
                yield folder
                known, leap = folder, folder + LAST
                break
        else:
            return


def _in_folder(store: ObjectStore, folder: str) -> Iterator[tuple[str, Listed]]:
    for found in store.list(folder):
        try:
            found.name.encode()
            name = parse_artifact_name(found.name)
        except (UnicodeEncodeError, ConfigurationError):  # somebody's own file
            continue
        yield found.name.removeprefix(folder), Listed(name=name, object=found)
