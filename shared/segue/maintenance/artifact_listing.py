"""Lists the artifacts of a store, file by file.

The artifacts of one file are spread over one folder per job and fingerprint. All folders are
listed in parallel and merged in the order of the files, so memory use stays flat.
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

LAST = "\U0010ffff"  # sorts after all names in a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedArtifact:
    """An object whose name is that of an artifact."""

    name: ArtifactName
    object: Object


def list_by_file(store: ObjectStore) -> Iterator[tuple[str, list[ListedArtifact]]]:
    """Stream the names of files (quoted, as in artifact names), each with all its artifacts.

    A file comes twice if another's name starts with its own and a slash; an artifact comes once.
    """
    folders = list(_find_folders(store))
    streams = [_list_folder(store, folder) for folder in folders]
    merged = heapq.merge(*streams, key=lambda found: found[0])
    for file, group in groupby((listed for _, listed in merged), key=lambda one: one.name.file):
        yield file, list(group)


def _find_folders(store: ObjectStore) -> Iterator[str]:
    """Yield the folders of a job and a fingerprint; each listing starts after the last folder."""
    known, after = "", ""
    while True:
        for found in store.list(after=after):
            job, _, rest = found.name.partition("/")
            fingerprint, slash, _ = rest.partition("/")
            folder = f"{job}/{fingerprint}/"
            if not (slash and NAME.fullmatch(job) and FINGERPRINT.fullmatch(fingerprint)):
                continue
            if folder != known:  # a name that is not valid text sorts after LAST
                yield folder
                known, after = folder, folder + LAST
                break
        else:
            return


def _list_folder(store: ObjectStore, folder: str) -> Iterator[tuple[str, ListedArtifact]]:
    for found in store.list(folder):
        try:
            found.name.encode()
            name = parse_artifact_name(found.name)
        except (UnicodeEncodeError, ConfigurationError):  # not written by Segue
            continue
        yield found.name.removeprefix(folder), ListedArtifact(name=name, object=found)
