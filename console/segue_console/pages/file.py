"""A file: a player with what was computed along its time, and everything about each job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from segue.adapters.connect import connect_store
from segue.codec import decode
from segue.codec.table_times import count_cells, limit_times
from segue.errors import CorruptMedia, MissingInput
from segue.model.artifact import compute_checksum
from segue.model.graph import Graph
from segue.model.record import EVERYONE, Record, State
from segue.model.transitions import find_current
from segue.printable import encode_json
from segue.reports.explanation import Explanation, JobExplanation, JobResult, explain
from segue.reports.failure_hints import HINTS
from segue.reports.result_json import to_json_type
from segue.reports.results import AUDIO, BYTES, CONTENT_TYPES, IMAGES
from segue.reports.value_differences import compare_values
from segue.reports.value_text import format_value, iterate_fields
from segue.stack import Stack
from segue_console.lookup import find_namespace, find_record
from segue_console.media import guess_content_type
from segue_console.namespace import Namespace
from segue_console.templates import build_query, render
from segue_console.tracks import Track, find_tracks

JSON = "application/json"
TABLE = "application/vnd.apache.parquet"
READ = (JSON, TABLE)
MAX_FIELDS = 500  # of a value that are shown in a table
MAX_TRACKS = 40  # of one result: a table may have hundreds of columns
MAX_VALUE_BYTES = 8 << 20  # of a result that is read for the page
MAX_CELLS = 1_000_000  # of a table, of which a few bytes may hold any number
MAX_TEXT = 200_000  # characters of a value's JSON
MAX_FIELD_TEXT = 2_000  # characters of one field
UNREADABLE = object()  # in the place of a value: it is lost, too large, or of a type of its own


def show_file(request: Request) -> Response:
    """Show one file."""
    namespace = find_namespace(request)
    record = find_record(namespace.stack, request)
    stack = namespace.stack
    explanation = explain(stack, record.uri, list(stack.graph.jobs))
    content_type = guess_content_type(record.uri, record.content_type)
    return render(
        request,
        "file.html",
        {
            "namespace": namespace,
            "page": "files",
            "record": record,
            "explanation": explanation,
            "kind": content_type.partition("/")[0],
            "media": build_query(f"/{namespace.name}/media", uri=record.uri),
            "artifacts": list(_list_artifacts(namespace.name, stack.graph, record)),
            "jobs": [_describe_job(namespace, record, explanation, j) for j in explanation.jobs],
            "others": [
                _describe_result(namespace.name, record, explanation, result)
                for result in explanation.others
            ],
            "notes": list(_list_notes(explanation)),
            "price": namespace.settings.price,
        },
    )


def show_tracks(request: Request) -> Response:
    """Return what is drawn along the time of a file, as JSON."""
    namespace = find_namespace(request)
    stack = namespace.stack
    record = find_record(stack, request)
    tracks: list[Track] = []
    left_out = 0
    with closing(connect_store(stack.graph.artifacts)) as store:
        for job in stack.graph.jobs:
            fingerprint = find_current(stack.graph, record, job)
            if fingerprint is None:
                continue
            for suffix in record.results[fingerprint].checksums:
                value = _read_value(store, record, fingerprint, suffix)
                output = suffix.rpartition(".")[0]
                found = list(find_tracks(f"{job}.{output}" if output else job, value))
                tracks += found[:MAX_TRACKS]
                left_out += len(found[MAX_TRACKS:])
    answer = {"tracks": tracks, "left_out": left_out}
    return Response(msgspec.json.encode(answer), media_type=JSON)


def show_waveform(request: Request) -> Response:
    """Return a file's waveform as JSON; 202 while it is computed."""
    namespace = find_namespace(request)
    record = find_record(namespace.stack, request)
    answer = request.app.state.waveforms.find(record.media)
    if answer.is_pending:
        return JSONResponse({"pending": True}, status_code=202)
    if answer.error is not None:
        return JSONResponse({"error": strip_uri(answer.error, record.uri)}, status_code=422)
    return Response(answer.data, media_type=JSON)


def _read_value(store: Any, record: Record, fingerprint: str, suffix: str) -> Any:
    """Return the value of a result in JSON or a table, or ``UNREADABLE``."""
    content_type = CONTENT_TYPES.get(suffix.rpartition(".")[2])
    if content_type not in READ:
        return UNREADABLE
    entry = record.results[fingerprint]
    name = record.name_artifact(fingerprint, suffix)
    try:
        data = store.read_part(name, start=0, length=MAX_VALUE_BYTES + 1)
    except MissingInput:
        return UNREADABLE
    if len(data) > MAX_VALUE_BYTES or compute_checksum(data) != entry.checksums[suffix]:
        return UNREADABLE
    try:
        if content_type == JSON:
            return decode(content_type, data)
        if count_cells(data) > MAX_CELLS:
            return UNREADABLE
        return limit_times(decode(content_type, data)).to_pydict()
    except CorruptMedia:
        return UNREADABLE


def _list_artifacts(namespace: str, graph: Graph, record: Record) -> Iterator[dict[str, Any]]:
    """Yield the sounds and pictures among the current results."""
    for job in graph.jobs:
        fingerprint = find_current(graph, record, job)
        if fingerprint is None:
            continue
        for suffix in record.results[fingerprint].checksums:
            content_type = CONTENT_TYPES.get(suffix.rpartition(".")[2], "")
            if content_type in AUDIO or content_type in IMAGES:
                output = suffix.rpartition(".")[0]
                yield {
                    "name": f"{job}.{output}" if output else job,
                    "kind": content_type.partition("/")[0],
                    "address": _build_address(namespace, record, fingerprint, suffix),
                }


def _build_address(namespace: str, record: Record, fingerprint: str, suffix: str) -> str:
    return build_query(
        f"/{namespace}/artifact", uri=record.uri, fingerprint=fingerprint, suffix=suffix
    )


def _describe_job(
    namespace: Namespace, record: Record, explanation: Explanation, job: JobExplanation
) -> dict[str, Any]:
    name = namespace.name
    return {
        "found": job,
        "reason": strip_uri(job.reason, record.uri),
        "description": namespace.graph.jobs[job.job].description,
        "results": [_describe_result(name, record, explanation, result) for result in job.results],
        "comparisons": list(_list_comparisons(name, record, job)),
    }


def _list_comparisons(
    namespace: str, record: Record, job: JobExplanation
) -> Iterator[dict[str, str]]:
    """Yield each earlier result beside the newest one, for each artifact that both have."""
    done = [
        result
        for result in job.results
        if result.entry.state is State.DONE and result.fingerprint in record.results
    ]
    for earlier in done[1:]:
        for suffix in done[0].entry.checksums:
            if suffix in earlier.entry.checksums:
                yield {
                    "old": earlier.fingerprint,
                    "suffix": suffix,
                    "address": build_query(
                        f"/{namespace}/file/comparison",
                        uri=record.uri,
                        old=earlier.fingerprint,
                        new=done[0].fingerprint,
                        suffix=suffix,
                    ),
                }


def _describe_result(
    namespace: str, record: Record, explanation: Explanation, result: JobResult
) -> dict[str, Any]:
    entry, error = result.entry, result.entry.error
    is_done = entry.state is State.DONE and result.fingerprint in record.results
    suffixes = list(entry.checksums) if is_done else []
    return {
        "found": result,
        "trigger": entry.triggered_by if entry.triggered_by != EVERYONE else None,
        "message": strip_uri(error.message, record.uri) if error is not None else "",
        "hint": HINTS.get(error.kind) if error is not None else None,
        "artifacts": [
            _describe_artifact(namespace, record, explanation, result.fingerprint, suffix)
            for suffix in suffixes
        ],
    }


def _describe_artifact(
    namespace: str, record: Record, explanation: Explanation, fingerprint: str, suffix: str
) -> dict[str, Any]:
    stat = explanation.artifacts[record.name_artifact(fingerprint, suffix)]
    return {
        "suffix": suffix,
        "address": _build_address(namespace, record, fingerprint, suffix),
        "exists": stat.exists,
        "size_bytes": stat.size_bytes,
        "parents": list(stat.lineage.parents) if stat.lineage is not None else None,
        "segue": stat.lineage.segue if stat.lineage is not None else None,
        "is_readable": CONTENT_TYPES.get(suffix.rpartition(".")[2]) in READ,
        "value": build_query(
            f"/{namespace}/file/value", uri=record.uri, fingerprint=fingerprint, suffix=suffix
        ),
    }


def strip_uri(message: str, uri: str) -> str:
    """Return a message without the name of the file that a page is about."""
    return message.replace(f"{uri}: ", "").replace(uri, "the file")


def _list_notes(explanation: Explanation) -> Iterator[str]:
    """Yield what is to be said of the file itself."""
    record, media = explanation.record, explanation.look.media
    if explanation.gone:
        yield "The file does not exist any more."
    elif explanation.look.error is not None:
        yield f"The file cannot be read: {explanation.look.error}"
    elif record is not None and media is not None and record.version != media.version:
        yield f"The file was overwritten since: what is shown is of version {record.version}."
    for version, results in record.earlier.items() if record is not None else ():
        jobs = ", ".join(dict.fromkeys(entry.job for entry in results.values()))
        yield f"Results of earlier content {version} are kept in case it comes back: {jobs}."
    if explanation.ignored is not None:
        yield explanation.ignored


def show_value(request: Request) -> Response:
    """Show the value of one result, as a part of the page."""
    namespace = find_namespace(request)
    stack: Stack = namespace.stack
    record = find_record(stack, request)
    fingerprint = request.query_params.get("fingerprint", "")
    suffix = request.query_params.get("suffix", "")
    value = UNREADABLE
    if fingerprint in record.results and suffix in record.results[fingerprint].checksums:
        with closing(connect_store(stack.graph.artifacts)) as store:
            value = _read_value(store, record, fingerprint, suffix)
    fields = [
        (name, format_value(field)[:MAX_FIELD_TEXT])
        for name, field in islice(iterate_fields(value), MAX_FIELDS)
    ]
    text = None
    if value is not UNREADABLE:
        text = encode_json(value, indent=1, default=to_json_type)
    return render(
        request,
        "value.html",
        {
            "namespace": namespace,
            "fields": fields,
            "text": text[:MAX_TEXT] if text is not None else None,
            "is_cut": text is not None and len(text) > MAX_TEXT,
        },
    )


def show_comparison(request: Request) -> Response:
    """Show how two versions of a job's result differ, as a part of the page."""
    namespace = find_namespace(request)
    stack: Stack = namespace.stack
    record = find_record(stack, request)
    given = request.query_params
    suffix = given.get("suffix", "")
    old, new = given.get("old", ""), given.get("new", "")
    for fingerprint in (old, new):
        entry = record.results.get(fingerprint)
        if entry is None or suffix not in entry.checksums:
            raise HTTPException(404, "The file has no such result.")
    content_type = CONTENT_TYPES.get(suffix.rpartition(".")[2], BYTES)
    differences = []
    kind = content_type.partition("/")[0]
    if content_type in READ:
        kind = "values"
        with closing(connect_store(stack.graph.artifacts)) as store:
            values = [_read_value(store, record, one, suffix) for one in (old, new)]
        if UNREADABLE not in values:
            differences = list(compare_values(JSON, *values))
        else:
            kind = "unreadable"
    changed = [d for d in differences if d.is_changed]
    return render(
        request,
        "comparison.html",
        {
            "namespace": namespace,
            "old": old,
            "new": new,
            "kind": kind,
            "addresses": [_build_address(namespace.name, record, f, suffix) for f in (old, new)],
            "changed": changed[:MAX_FIELDS],
            "more": max(len(changed) - MAX_FIELDS, 0),
            "same": len(differences) - len(changed),
            "format_value": lambda value: format_value(value)[:MAX_FIELD_TEXT],
        },
    )


ROUTES = [
    Route("/file", show_file, name="file"),
    Route("/file/tracks", show_tracks, name="tracks"),
    Route("/file/waveform", show_waveform, name="waveform"),
    Route("/file/value", show_value, name="value"),
    Route("/file/comparison", show_comparison, name="comparison"),
]
