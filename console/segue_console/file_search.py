"""Finds the files that a page of a list shows: from a cursor on, by prefix, job and state.

The ledger finds files with an unfinished or failed result by itself. Files whose result is done,
stale or missing are found by reading on, and a page reads only so many: it may then be short, and
says where the next one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from segue.errors import ConfigurationError
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query
from segue.model.media_file import parse_prefix
from segue.model.object_store import LAST
from segue.model.record import Record, State, format_term
from segue.model.transitions import find_current, find_entry
from segue.reports.job_states import MISSING, STALE

PAGE = 50
READ_AT_MOST = 2_000  # records, for one page
FOLDERS = 30
BY_TERM = (State.FAILED, State.BLOCKED, State.RUNNING, State.QUEUED)
STATES = (*map(str, BY_TERM), str(State.DONE), str(State.NOT_APPLICABLE), STALE, MISSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSearch:
    """Which files are looked for."""

    prefix: str = ""  # a path, or the start of a URI
    job: str = ""  # "": whatever the jobs' states are
    state: str = ""
    error: str = ""  # a part of the message or the kind of a failure
    after: str = ""  # the URI behind which the page begins


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePage:
    """A page of files."""

    records: tuple[Record, ...]
    next: str | None  # where the next page begins; None: there is no more
    read: int  # records


def find_files(ledger: Ledger, graph: Graph, search: FileSearch) -> FilePage:
    """Find a page of files.

    Raises
    ------
    ConfigurationError
        If there is no such job or state.
    """
    query = Query(prefix=_resolve_prefix(graph, search.prefix), deleted=False)
    matches = _build_filter(graph, search)
    state = State(search.state) if search.state in BY_TERM else None
    if state is not None and search.job:
        query = replace(query, open=format_term(search.job, graph.fingerprints[search.job], state))
    found: list[Record] = []
    after, read = search.after, 0
    while read < READ_AT_MOST:
        limit = min(PAGE if not search.state else 4 * PAGE, READ_AT_MOST - read)
        page = ledger.find(query, after=after, limit=limit)
        for record in page:
            read += 1
            after = record.uri
            if matches(record):
                found.append(record)
                if len(found) == PAGE:
                    return FilePage(records=tuple(found), next=after, read=read)
        if len(page) < limit:
            return FilePage(records=tuple(found), next=None, read=read)
    return FilePage(records=tuple(found), next=after, read=read)


def list_folders(ledger: Ledger, graph: Graph, prefix: str) -> tuple[list[str], bool]:
    """Return the URIs of the folders right below a folder, and whether there are more.

    Each costs one call to the ledger, however many files are in it.
    """
    start = _resolve_prefix(graph, prefix) or find_common_folder(ledger)
    if start and not start.endswith("/"):
        start = f"{start}/"
    folders: list[str] = []
    after = start
    while len(folders) <= FOLDERS:
        page = ledger.find(Query(prefix=start, deleted=False), after=after, limit=1)
        if not page:
            return folders, False
        rest = page[0].uri[len(start) :]
        name, slash, _ = rest.partition("/")
        folder = f"{start}{name}/" if slash else ""
        if not start:  # several buckets
            folder = "/".join(rest.split("/", 3)[:3]) + "/"
        if folder:
            folders.append(folder)
            after = folder + LAST
        else:
            after = page[0].uri
            if _count_files(ledger, start, after):  # a folder of files has no folders, usually
                return folders, False
    return folders[:FOLDERS], True


def find_common_folder(ledger: Ledger) -> str:
    """Return the deepest folder that all files are in, with a few calls to the ledger.

    If they are in several buckets, or there are none, it is empty.
    """
    found = ledger.find(Query(deleted=False), limit=1)
    if not found:
        return ""
    parts = found[0].uri.split("/")
    folder = ""
    for depth in range(3, len(parts)):
        deeper = "/".join(parts[:depth]) + "/"
        if ledger.find(Query(deleted=False), after=deeper + LAST, limit=1):
            break
        folder = deeper
    return folder


def _count_files(ledger: Ledger, start: str, after: str) -> bool:
    """Whether the next few names are files of this folder, so that looking on is not worth it."""
    page = ledger.find(Query(prefix=start, deleted=False), after=after, limit=PAGE)
    return bool(page) and all("/" not in record.uri[len(start) :] for record in page)


def _resolve_prefix(graph: Graph, text: str) -> str:
    """Return the start of a URI for what a person typed: a path, or one below the catalogue."""
    text = text.strip()
    if not text or "://" in text:
        return text
    if text.startswith("/"):
        return f"file://{text}"
    if graph.catalogue:
        return f"{parse_prefix(graph.catalogue).rstrip('/')}/{text}"
    return parse_prefix(text)


def _build_filter(graph: Graph, search: FileSearch) -> Callable[[Record], bool]:
    if search.job and search.job not in graph.jobs:
        raise ConfigurationError(f"The graph has no job {search.job!r}.")
    if search.state and search.state not in STATES:
        raise ConfigurationError(f"{search.state!r} is no state; choose one of the list.")
    jobs = [search.job] if search.job else list(graph.jobs)
    wanted = search.error.casefold()

    def matches(record: Record) -> bool:
        if search.state and not any(find_state(graph, record, j) == search.state for j in jobs):
            return False
        return not wanted or any(wanted in said for said in _list_errors(graph, record, jobs))

    return matches


def find_state(graph: Graph, record: Record, job: str) -> str:
    """Return the state of a job of a file, as a page shows it: one of ``STATES``."""
    if find_current(graph, record, job) is not None:
        return str(State.DONE)
    entry = find_entry(graph, record, job)
    if entry is not None:
        return str(entry.state)
    has_old = any(e.job == job and e.state is State.DONE for e in record.results.values())
    return STALE if has_old else MISSING


def _list_errors(graph: Graph, record: Record, jobs: list[str]) -> Iterator[str]:
    for job in jobs:
        entry = find_entry(graph, record, job)
        if entry is not None and entry.error is not None:
            yield f"{entry.error.kind} {entry.error.type} {entry.error.message}".casefold()
