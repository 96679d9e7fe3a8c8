"""The client of requests: builds them from command-line arguments, and sends all their pages."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from segue.adapters.connect import check_writable, connect_queue, connect_store
from segue.errors import ConfigurationError
from segue.ingest.catalogue import build_media_filter
from segue.ingest.requests import Request, RequestReceipt, Requests
from segue.model.media_file import list_file_uris, parse_location, parse_prefix
from segue.model.passed_over import PassedOver
from segue.model.run import find_user

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.stack import Stack


@contextlib.contextmanager
def open_requests(stack: Stack) -> Iterator[Requests]:
    """Connect a stack to its queue, to send requests; raise an error if none can be saved."""
    check_writable(parse_location(stack.graph.artifacts))
    with contextlib.closing(connect_queue(stack.settings.queue, stack.graph)) as queue:
        yield Requests(
            graph=stack.graph,
            ledger=stack.ledger,
            queue=queue,
            media_filter=build_media_filter(stack.graph, stack.settings),
            open_store=connect_store,
            artifacts=stack.artifacts,
        )


def send_request(requests: Requests, request: Request) -> RequestReceipt:
    """Send all pages of a request; the receipt is about all of them."""
    files, who = 0, find_user()
    ignored: dict[str, str] = {}
    passed_over = PassedOver()
    while True:
        page = requests.accept(request, who=who)
        files += page.files
        ignored |= page.ignored
        passed_over += page
        if page.after is None:
            counts = msgspec.structs.asdict(passed_over)
            return msgspec.structs.replace(page, files=files, ignored=ignored, **counts)
        request = msgspec.structs.replace(request, request=page.request, after=page.after)


def build_request(graph: Graph, files: list[str] | None, prefix: str | None) -> Request:
    """Build a request for all jobs from file names or a prefix as the user typed them."""
    if bool(files) == (prefix is not None):
        raise ConfigurationError("name either files, or a folder or prefix with --prefix")
    if prefix is not None:
        return Request(prefix=parse_prefix(prefix))
    return Request(files=tuple(_find_uri(graph, one) for one in files or ()))


def _find_uri(graph: Graph, text: str) -> str:
    """Return the URI of a file as the user typed it: the first candidate that exists."""
    uris = list_file_uris(text, graph.catalogue)
    for uri in uris:
        if uri.startswith("gs://") or _may_be_file(uri.removeprefix("file://")):
            return uri
    raise ConfigurationError(f"there is no file {text!r}; check the path")


def _may_be_file(path: str) -> bool:
    """Whether a path is a file, or in a folder that cannot be read, which the receipt then says."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError:
        return True
    except (OSError, ValueError):  # a NUL in the name
        return False
