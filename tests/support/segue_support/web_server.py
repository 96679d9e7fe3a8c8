"""A web server on this machine that serves what a test gives it, and fails as it is told to."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(kw_only=True)
class Page:
    """What is at a path: its bytes, and how the first requests for it fail."""

    body: bytes = b""
    kind: str = "application/octet-stream"
    redirect: str | None = None  # to this address
    statuses: list[int] = field(default_factory=list)  # of the first requests, instead of 200
    cut_at: list[int] = field(default_factory=list)  # of the first requests: bytes until it stops
    authorization: str | None = None  # without it, 401
    has_ranges: bool = True


@dataclass
class WebServer:
    """The pages by path, and the requests that came."""

    pages: dict[str, Page]
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def count(self, path: str) -> int:
        """Return how often a path was requested."""
        return sum(path == requested for requested, _ in self.requests)


@contextlib.contextmanager
def serve_pages(pages: Mapping[str, Page | bytes] | None = None) -> Iterator[WebServer]:
    """Serve pages until the block ends; more may be added meanwhile."""
    given = {p: v if isinstance(v, Page) else Page(body=v) for p, v in (pages or {}).items()}
    server = WebServer(dict(given))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.requests.append((self.path, dict(self.headers)))
            page = server.pages.get(self.path.partition("?")[0])
            if page is None:
                self.fail(404)
            elif page.authorization not in (None, self.headers["Authorization"]):
                self.fail(401)
            elif page.statuses:
                self.fail(page.statuses.pop(0))
            elif page.redirect is not None:
                self.send_response(302)
                self.send_header("Location", page.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.send_page(page)

        def send_page(self, page: Page) -> None:
            body, wanted = page.body, self.headers["Range"]
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if not page.has_ranges:
                start = 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Type", page.kind)
            self.send_header("Content-Length", str(len(body) - start))
            self.send_header("ETag", f'"{hash(body)}"')
            self.end_headers()
            cut = page.cut_at.pop(0) if page.cut_at else len(body)
            self.wfile.write(body[start:cut])
            self.close_connection = cut < len(body)

        def fail(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Keep the tests' output short."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        listener.shutdown()
        thread.join()


def make_wheel(files: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def make_tarball(files: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a compressed tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def add_python_package(
    server: WebServer, name: str, file: str, archive: bytes, *, as_html: bool = False
) -> None:
    """Add a package with one file to a package index at ``/simple``."""
    server.pages[f"/files/{file}"] = Page(body=archive)
    url = f"{server.url}/files/{file}"
    if as_html:
        body = f'<!DOCTYPE html><a href="../../files/{file}#sha256=0">{file}</a>'.encode()
        server.pages[f"/simple/{name}/"] = Page(body=body, kind="text/html")
        return
    described = {"name": name, "files": [{"filename": file, "url": url, "hashes": {}}]}
    kind = "application/vnd.pypi.simple.v1+json"
    server.pages[f"/simple/{name}/"] = Page(body=json.dumps(described).encode(), kind=kind)


def add_node_package(server: WebServer, name: str, version: str, archive: bytes) -> None:
    """Add a package to an npm registry at ``/npm``, whose metadata names another registry."""
    path = f"{name}/-/archive-{version}.tgz"
    server.pages[f"/npm/{path}"] = Page(body=archive)
    dist = {"tarball": f"https://copied.example/{path}"}
    body = json.dumps({"versions": {version: {"dist": dist}}}).encode()
    server.pages[f"/npm/{name.replace('/', '%2f')}"] = Page(body=body, kind="application/json")
