"""Serves media files and artifacts, in parts, to the page of a file.

What is served is found by the ledger alone: the record of a file names it and its artifacts, so no
address leads to anything else. Only sound, films and pictures are shown by a browser; anything else
is a download.

Ranges are those of RFC 9110, section 14.
"""

from __future__ import annotations

import contextlib
import mimetypes
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from segue.adapters.connect import connect_store
from segue.model.media_file import find_bucket_location, split_uri
from segue.model.object_store import ObjectStore
from segue.model.record import Record, State
from segue.reports.results import BYTES, CONTENT_TYPES
from segue.stack import Stack
from segue_console.lookup import find_namespace, find_record
from segue_console.security import SANDBOX

PART_BYTES = 1 << 20  # of one answer to a range; a player asks for the next one
# Without a plus sign: browsers may take a type that ends in +xml for a page.
SHOWN = re.compile(r"(audio|video)/[a-z0-9.-]+|image/(avif|gif|jpeg|png|webp)")
# No object has a size of more digits.
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
# What mimetypes does not know, or calls by a name that players do not.
TYPES = {
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".m4b": "audio/mp4",
    ".mka": "audio/x-matroska",
    ".mkv": "video/x-matroska",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".webp": "image/webp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An object that may be served, and how."""

    store: ObjectStore
    name: str
    generation: int | None  # the only one that may be served; None: the current one
    content_type: str


def guess_content_type(uri: str, recorded: str | None = None) -> str:
    """Return the content type of a media file: as its bucket has it, else by its name."""
    if recorded is not None and SHOWN.fullmatch(recorded):
        return recorded
    suffix = f".{uri.rpartition('.')[2].lower()}"
    return TYPES.get(suffix) or mimetypes.types_map.get(suffix) or BYTES


def serve_media(request: Request) -> Response:
    """Serve a file of the catalogue: of a bucket, in the version that the ledger has."""
    namespace = find_namespace(request)
    record = find_record(namespace.stack, request)
    store = connect_store(find_bucket_location(record.uri))
    return _serve(
        request,
        Served(
            store=store,
            name=split_uri(record.uri)[1],
            generation=record.order if record.uri.startswith("gs://") else None,
            content_type=guess_content_type(record.uri, record.content_type),
        ),
    )


def serve_artifact(request: Request) -> Response:
    """Serve an artifact of a file."""
    namespace = find_namespace(request)
    stack = namespace.stack
    record = find_record(stack, request)
    return _serve(request, _find_artifact(stack, record, request))


def _find_artifact(stack: Stack, record: Record, request: Request) -> Served:
    fingerprint = request.query_params.get("fingerprint", "")
    suffix = request.query_params.get("suffix", "")
    entry = record.results.get(fingerprint)
    if entry is None or entry.state is not State.DONE or suffix not in entry.checksums:
        raise HTTPException(404, "The file has no such result.")
    return Served(
        store=connect_store(stack.graph.artifacts),
        name=record.name_artifact(fingerprint, suffix),
        generation=None,
        content_type=CONTENT_TYPES.get(suffix.rpartition(".")[2], BYTES),
    )


def _serve(request: Request, served: Served) -> Response:
    """Answer with the whole object, or with the part that is asked for."""
    with contextlib.ExitStack() as opened:
        opened.enter_context(closing(served.store))
        found = served.store.stat(served.name)
        size = found.size_bytes
        if served.generation not in (None, found.generation):
            raise HTTPException(404, "The file was overwritten after the ledger had noted it.")
        # All parts of an answer are of one generation: an object may be overwritten meanwhile.
        generation = found.generation
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Security-Policy": SANDBOX,
            "ETag": f'"{generation}"',
        }
        content_type = served.content_type
        if not SHOWN.fullmatch(content_type):
            content_type = BYTES
            leaf = quote(served.name.rpartition("/")[2], errors="replace")
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{leaf}"
        part = _parse_range(request.headers, headers["ETag"], size)
        if part is None:
            headers["Content-Length"] = str(size)
            if request.method == "HEAD":
                return Response(headers=headers, media_type=content_type)
            opened.pop_all()
            return StreamingResponse(
                _read_all(served, size, generation), headers=headers, media_type=content_type
            )
        start, length = part
        if length <= 0:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        data = served.store.read_part(
            served.name, start=start, length=length, generation=generation
        )
    headers["Content-Range"] = f"bytes {start}-{start + len(data) - 1}/{size}"
    return Response(data, status_code=206, headers=headers, media_type=content_type)


def _parse_range(headers: Headers, tag: str, size: int) -> tuple[int, int] | None:
    """Return the position and length that a request asks for; None for the whole object.

    A length of 0 means that there is nothing at the position.
    """
    found = RANGE.fullmatch(headers.get("range", "").strip())
    if found is None or found[0] == "bytes=-":  # of several ranges, the whole may be sent
        return None
    if headers.get("if-range", tag) != tag:  # the browser has a part of what was there before
        return None
    if not found[1]:
        start = max(size - int(found[2]), 0)
        return start, min(size - start, PART_BYTES)
    start = int(found[1])
    end = min(int(found[2]), size - 1) if found[2] else size - 1
    return start, min(max(end - start + 1, 0), PART_BYTES)


def _read_all(served: Served, size: int, generation: int) -> Iterator[bytes]:
    with closing(served.store) as store:
        for start in range(0, size, PART_BYTES):
            yield store.read_part(
                served.name, start=start, length=PART_BYTES, generation=generation
            )


ROUTES = [
    Route("/media", serve_media, name="media"),
    Route("/artifact", serve_artifact, name="artifact"),
]
