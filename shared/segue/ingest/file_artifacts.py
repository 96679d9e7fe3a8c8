"""Finds and removes the artifacts of one file.

They are in one folder for each job and fingerprint, together with those of other files: of those
whose names lead below this one's, and of those of other buckets that have the same name. So an
object counts only if its name is that of this file's artifact, and its lineage names no other file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from segue.errors import ConfigurationError, MissingInput
from segue.model.artifact import ARTIFACT, Lineage, quote_name
from segue.model.graph import FINGERPRINT, NAME, Graph
from segue.model.media_file import split_uri
from segue.model.object_store import LAST, Object, ObjectStore
from segue.model.record import Record


def list_result_folders(store: ObjectStore) -> Iterator[str]:
    """Yield all folders of a job and a fingerprint; each listing starts after the last folder."""
    known, after = "", ""
    while True:
        for found in store.list(after=after):
            job, _, rest = found.name.partition("/")
            fingerprint, slash, _ = rest.partition("/")
            folder = format_result_folder(job, fingerprint)
            if not (slash and NAME.fullmatch(job) and FINGERPRINT.fullmatch(fingerprint)):
                continue
            if folder != known:  # a name that is not valid text sorts after LAST
                yield folder
                known, after = folder, folder + LAST
                break
        else:
            return


def list_known_folders(graph: Graph, record: Record) -> list[str]:
    """Return the folders of the results that a record knows, or that the graph makes or accepts."""
    known = [record.results, *record.earlier.values()]
    folders = [format_result_folder(e.job, f) for results in known for f, e in results.items()]
    folders += [format_result_folder(j, f) for j, found in graph.accepted.items() for f in found]
    return list(dict.fromkeys(folders))


def format_result_folder(job: str, fingerprint: str) -> str:
    """Return the folder of the artifacts of a job with a fingerprint."""
    return f"{job}/{fingerprint}/"


def find_file_artifacts(store: ObjectStore, uri: str, folders: Iterable[str]) -> Iterator[Object]:
    """Yield the artifacts of a file, of all its versions, in some folders of results.

    One that has lost its lineage is among them.
    """
    file = quote_name(split_uri(uri)[1])
    for folder in folders:
        for found in store.list(f"{folder}{file}/"):
            name = ARTIFACT.fullmatch(found.name)
            if name is not None and name["file"] == file and not _is_of_another(store, found, uri):
                yield found


def _is_of_another(store: ObjectStore, found: Object, uri: str) -> bool:
    try:
        lineage = Lineage.from_metadata(store.stat(found.name).metadata)
    except MissingInput:  # it is gone by now
        return True
    return lineage is not None and lineage.uri != uri


def remove_file_artifacts(store: ObjectStore, uri: str, folders: Iterable[str]) -> int:
    """Remove the artifacts of a file in some folders of results, and return how many there were.

    Raises
    ------
    ConfigurationError
        If some of them may not be removed; the others are.
    """
    removed, forbidden = 0, None
    for folder in folders:
        try:
            for found in list(find_file_artifacts(store, uri, [folder])):
                removed += store.delete(found.name)
        except ConfigurationError as error:
            forbidden = forbidden or error
    if forbidden is not None:
        raise forbidden
    return removed
