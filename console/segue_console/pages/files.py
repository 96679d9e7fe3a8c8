"""Files: found by prefix, job, state or error, a page at a time."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from segue_console.file_search import STATES, FileSearch, find_files, find_state, list_folders
from segue_console.lookup import find_namespace
from segue_console.templates import render


def show_files(request: Request) -> Response:
    """Show a page of files."""
    namespace = find_namespace(request)
    stack = namespace.stack
    given = request.query_params
    search = FileSearch(**{n: given.get(n, "") for n in FileSearch.__dataclass_fields__})
    page = find_files(stack.ledger, stack.graph, search)
    is_search = bool(search.job or search.state or search.error)
    folders: list[str] = []
    more = False
    if not is_search and not search.after:
        folders, more = list_folders(stack.ledger, stack.graph, search.prefix)
    jobs = list(stack.graph.jobs)
    rows = [
        {"record": r, "states": [(j, find_state(stack.graph, r, j)) for j in jobs]}
        for r in page.records
    ]
    return render(
        request,
        "file_rows.html" if request.headers.get("hx-request") else "files.html",
        {
            "namespace": namespace,
            "page": "files",
            "search": search,
            "found": page,
            "rows": rows,
            "jobs": jobs,
            "states": STATES,
            "folders": folders,
            "more_folders": more,
            "parent": _find_parent(search.prefix),
        },
    )


def _find_parent(prefix: str) -> str:
    """Return the folder above a folder, or above the start of a name; empty if there is none."""
    parent = prefix.rstrip("/").rpartition("/")[0]
    return f"{parent}/" if parent and not parent.endswith("/") else ""


ROUTES = [Route("/files", show_files, name="files")]
