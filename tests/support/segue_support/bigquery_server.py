"""A server that speaks the requests of BigQuery's REST API that Segue makes.

It loads Parquet into tables, and knows Segue's statements by their first line: it does what they
mean, and keeps their text. It does not run GoogleSQL, and nothing proves that BigQuery would.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa
from pyarrow import parquet

Fields = list[dict[str, Any]]
NAMES = re.compile(r"`[\w-]+\.\w+\.(\w+)` AS ([tkr])\b")


@dataclass
class BigQueryServer:
    """The tables of one dataset, and what was asked for."""

    url: str = ""
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by table
    schemas: dict[str, Fields] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    loads: list[dict[str, Any]] = field(default_factory=list)  # their configurations
    expire: list[str] = field(default_factory=list)  # tables that were told to
    # What fails: the start of "METHOD path" → status and message.
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    read_object: Callable[[str], bytes] | None = None  # of a URI that is loaded
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)  # by address

    def load(self, table: str, data: bytes) -> None:
        """Replace a table by what Parquet has."""
        found = parquet.read_table(io.BytesIO(data))
        self.schemas[table] = [build_field(one) for one in found.schema]
        self.rows[table] = found.to_pylist(maps_as_pydicts="lossy")

    def run(self, statement: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        """Do what a statement means."""
        self.statements.append(statement)
        kind = statement.partition("\n")[0].removeprefix("-- Segue: ")
        tables = {alias: name for name, alias in NAMES.findall(statement)}
        if kind == "newest":
            return self._find_newest(statement, tables, parameters)
        if kind == "missing":
            return self._find_missing(statement, tables)
        if kind == "create":
            target, rows = re.findall(r"`[\w-]+\.\w+\.(\w+)`", statement)
            self.rows[target], self.schemas[target] = self.rows[rows], self.schemas[rows]
            return []
        return self._merge(statement, tables, parameters)

    def _concerns(self, row: Mapping[str, Any], parameters: Mapping[str, str]) -> bool:
        if not parameters:
            return True
        uri: str = row["uri"]
        return uri == parameters["prefix"] or uri.startswith(parameters["folder"])

    def _find_newest(
        self, statement: str, tables: Mapping[str, str], parameters: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        times = re.findall(r"MAX\(t\.`(\w+)`\)", statement)
        found = [
            row[time]
            for row in self.rows[tables["t"]]
            for time in times
            if row.get(time) is not None and self._concerns(row, parameters)
        ]
        return [{"newest": max(found, default=datetime(1, 1, 1, tzinfo=UTC))}]

    def _find_missing(self, statement: str, tables: Mapping[str, str]) -> list[dict[str, Any]]:
        names = re.findall(r"r\.`(\w+)` IS NOT DISTINCT", statement)
        times = re.findall(r"IFNULL\(k\.`(\w+)`", statement)

        def list_keys(table: str) -> list[tuple[Any, ...]]:
            return [tuple(row.get(name) for name in names) for row in self.rows[tables[table]]]

        known = {*list_keys("r"), *list_keys("t")}
        missing = [
            row
            for row, key in zip(self.rows[tables["k"]], list_keys("k"), strict=True)
            if key not in known
        ]
        found = [row[t] for row in missing for t in times if row[t] is not None]
        return [{"count": len(missing), "oldest": min(found, default=None)}]

    def _merge(
        self, statement: str, tables: Mapping[str, str], parameters: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        names = re.findall(r"k\.`(\w+)` AS", statement)
        keys = {row["uri"]: row for row in self.rows[tables["k"]]}
        rows = {row["uri"]: row for row in self.rows[tables["r"]]}
        assert len(keys) == len(self.rows[tables["k"]])  # else BigQuery refuses to merge
        columns = re.findall(r"`(\w+)` = (?:s\.|NULL)", statement)
        merged = []
        for row in self.rows[tables["t"]]:
            key = keys.pop(row["uri"], None)
            if key is None:
                if not self._concerns(row, parameters):
                    merged.append(row)
            elif row["uri"] in rows:
                merged.append({name: rows[row["uri"]].get(name) for name in columns})
            elif all(row.get(name) == key[name] for name in names):
                merged.append(row)
        merged += [{n: rows[uri].get(n) for n in columns} for uri in keys if uri in rows]
        self.rows[tables["t"]] = merged
        return []


def build_field(field: pa.Field) -> dict[str, Any]:
    """Return a column as BigQuery describes it."""
    kind, mode = field.type, "NULLABLE"
    if pa.types.is_map(kind):
        kind = pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
    if pa.types.is_list(kind):
        kind, mode = kind.value_type, "REPEATED"
    made: dict[str, Any] = {"name": field.name, "mode": mode}
    if pa.types.is_struct(kind):
        return {**made, "type": "RECORD", "fields": [build_field(one) for one in kind]}
    names = {"int64": "INTEGER", "double": "FLOAT", "bool": "BOOLEAN", "string": "STRING"}
    return {**made, "type": names.get(str(kind), "TIMESTAMP")}


def encode_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of a query as JSON."""
    first = rows[0] if rows else {}
    fields, cells = [], []
    for name, value in first.items():
        is_count = isinstance(value, int)
        fields.append({"name": name, "type": "INTEGER" if is_count else "TIMESTAMP"})
        micros = None if value is None or is_count else count_micros(value)
        cells.append({"v": str(value) if is_count else micros})
    return {
        "jobComplete": True,
        "totalRows": str(len(rows)),
        "schema": {"fields": fields},
        "rows": [{"f": cells}] if rows else [],
    }


def count_micros(value: datetime) -> str:
    """Return microseconds since 1970, as BigQuery sends them."""
    since = value - datetime(1970, 1, 1, tzinfo=UTC)
    return str((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: BigQueryServer
    location = ""  # where an upload goes on

    def _handle(self) -> None:
        state = self.server_state
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        path = self.path.partition("?")[0].removeprefix("/upload").removeprefix("/bigquery/v2")
        for start, (status, message) in state.failures.items():
            if f"{self.command} {path}".startswith(start):
                self._send(status, {"error": {"code": status, "message": message}})
                return
        self._send(*self._answer(path, body))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - the names of http.server

    def _answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        state = self.server_state
        parts = path.strip("/").split("/")
        if parts[-2:-1] == ["tables"]:
            return self._answer_table(parts[-1], body)
        if "uploadType=resumable" in self.path and self.command == "POST":
            state.uploads[place := f"/upload/jobs?id={len(state.uploads)}"] = json.loads(body)
            self.location = state.url + place
            return 200, {}
        if parts[-1] == "jobs" and self.command in ("POST", "PUT"):
            return 200, self._start_job(body)
        if parts[-2:-1] == ["jobs"]:
            return 200, state.jobs[parts[-1]]
        if parts[-2:-1] == ["queries"]:
            return 200, {
                "jobReference": state.jobs[parts[-1]]["jobReference"],
                **state.jobs[parts[-1]]["results"],
            }
        if parts[-2:-1] == ["datasets"]:
            return 200, {"datasetReference": {"projectId": parts[1], "datasetId": parts[-1]}}
        return 404, {"error": {"code": 404, "message": f"Not found: {path}"}}

    def _answer_table(self, name: str, body: bytes) -> tuple[int, dict[str, Any]]:
        state = self.server_state
        if name not in state.schemas:
            return 404, {"error": {"code": 404, "message": f"Not found: Table {name}"}}
        if self.command == "DELETE":
            del state.schemas[name], state.rows[name]
            return 204, {}
        if self.command == "PATCH":
            changes = json.loads(body)
            if "schema" in changes:
                state.schemas[name] = changes["schema"]["fields"]
            if "expirationTime" in changes:
                state.expire.append(name)
        reference = {"projectId": "acme", "datasetId": "music", "tableId": name}
        return 200, {"tableReference": reference, "schema": {"fields": state.schemas[name]}}

    def _start_job(self, body: bytes) -> dict[str, Any]:
        """Run a load with its data, a load of objects, or a query."""
        state, data = self.server_state, b""
        if self.command == "PUT":
            request, data = state.uploads[self.path], body
        elif "multipart" in self.headers.get("Content-Type", ""):
            boundary = b"--" + self.headers["Content-Type"].partition('boundary="')[2].encode()
            boundary = boundary.rstrip(b'"')
            _, first, second, _ = body.split(boundary)
            request = json.loads(first.partition(b"\r\n\r\n")[2])
            data = second.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        else:
            request = json.loads(body)
        job: dict[str, Any] = {**request, "status": {"state": "DONE"}, "results": encode_rows([])}
        config = request["configuration"]
        if (load := config.get("load")) is not None:
            state.loads.append(load)
            for uri in load.get("sourceUris", ()):
                assert state.read_object is not None
                data = state.read_object(uri)
            state.load(load["destinationTable"]["tableId"], data)
        else:
            given = config["query"].get("queryParameters", ())
            parameters = {one["name"]: one["parameterValue"]["value"] for one in given}
            job["results"] = encode_rows(state.run(config["query"]["query"], parameters))
        job["jobReference"] = {"projectId": "acme", **request["jobReference"]}
        state.jobs[job["jobReference"]["jobId"]] = job
        return job

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        data = b"" if status == 204 else json.dumps(answer, default=str).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.location:
            self.send_header("Location", self.location)
            self.location = ""
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def serve_bigquery() -> Iterator[BigQueryServer]:
    """Serve an empty dataset until the block ends."""
    state = BigQueryServer()
    handler = type("Handler", (_Handler,), {"server_state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield state
        finally:
            server.shutdown()
