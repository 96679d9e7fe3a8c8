"""Asks for results over all pages of a request, and knows what a person may name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from segue.adapters.connect import connect_queue, connect_store
from segue.errors import ConfigurationError
from segue.ingest.arrivals import Intake
from segue.ingest.requests import Accepted, Request, Requests
from segue.model.location import file_uris, location_of, prefix_uri

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.stack import Stack


def intake_of(graph: Graph) -> Intake:
    """Which objects are media of a graph's catalogue; what Segue itself writes is none."""
    return Intake.of(
        graph,
        catalogue=location_of(graph.catalogue) if graph.catalogue else None,
        ours=(location_of(graph.artifacts), location_of(".segue")),
    )


@contextlib.contextmanager
def open_requests(stack: Stack) -> Iterator[Requests]:
    """Connect what takes requests to a stack."""
    queue = connect_queue(stack.settings.queue)
    try:
        yield Requests(
            graph=stack.graph,
            ledger=stack.ledger,
            queue=queue,
            intake=intake_of(stack.graph),
            open_store=connect_store,
            artifacts=stack.artifacts,
        )
    finally:
        queue.close()


def ask(
    requests: Requests, asked: Request, seen: Callable[[int], object] = lambda _files: None
) -> Accepted:
    """Make a request for all of its pages; ``seen`` is told how many files it has by then."""
    files = 0
    ignored: dict[str, str] = {}
    while True:
        page = requests.take(asked)
        files += page.files
        ignored |= page.ignored
        seen(files)
        if page.after is None:
            return msgspec.structs.replace(page, files=files, ignored=ignored)
        asked = msgspec.structs.replace(asked, request=page.request, after=page.after)


def named(graph: Graph, files: list[str] | None, prefix: str | None) -> Request:
    """The files or the prefix that a person names, as a request for all jobs."""
    if bool(files) == (prefix is not None):
        raise ConfigurationError("name either files, or a folder or prefix with --prefix")
    if prefix is not None:
        return Request(prefix=prefix_uri(prefix))
    return Request(files=tuple(_uri(graph, one) for one in files or ()))


def _uri(graph: Graph, text: str) -> str:
    """The URI of a file that a person names: the first that is there."""
    uris = file_uris(text, graph.catalogue)
    for uri in uris:
        if uri.startswith("gs://") or os.path.isfile(uri.removeprefix("file://")):
            return uri
    raise ConfigurationError(f"there is no file {text!r}; look at the path")
