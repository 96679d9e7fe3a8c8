"""Downloads over HTTP, with retries; an interrupted download goes on where it stopped.

Proxies and certificates are those of the environment, as for pip: ``HTTPS_PROXY``,
``SSL_CERT_FILE``, ``REQUESTS_CA_BUNDLE``, ``PIP_CERT``.
"""

from __future__ import annotations

import base64
import errno
import http.client
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segue.backoff import Backoff, retry
from segue.errors import ConfigurationError, SegueError, TransientError, Unavailable
from segue.model.model_entry import hide_password

BLOCK_BYTES = 2**18
TIMEOUT_S = 60.0  # without any byte
ATTEMPTS = 5
BACKOFF = Backoff(first_s=0.5, longest_s=8.0)
MAX_PAGE_BYTES = 64 * 2**20  # of an index; that of a package with thousands of files has a few MB
GONE = (400, 404, 410, 451)
FORBIDDEN = (401, 403, 407)
UNREACHABLE_ERRNOS = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)

Progress = Callable[[int, int | None], None]  # bytes so far, and all if that is known


class _TooLongError(SegueError):
    """The server sends more than it should."""


@dataclass(slots=True)
class _Reception:
    """A file that is being received."""

    path: str
    limit_bytes: int
    on_progress: Progress
    received: int = 0
    tag: str | None = None  # by which the server knows that the file is still the same

    def read(self, answer: Any, *, continues: bool) -> None:
        if not continues:
            self.received = 0
        length = answer.headers.get("Content-Length")
        total = self.received + int(length) if length is not None else None
        self.tag = answer.headers.get("ETag")
        if total is not None and total > self.limit_bytes:
            raise _TooLongError(f"{total:,} bytes")
        with open(self.path, "ab" if continues else "wb") as file:
            while block := answer.read(BLOCK_BYTES):
                self.received += len(block)
                if self.received > self.limit_bytes:
                    raise _TooLongError(f"more than {self.limit_bytes:,} bytes")
                file.write(block)
                self.on_progress(self.received, total)
        if total is not None and self.received < total:
            raise http.client.IncompleteRead(b"", total - self.received)


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but none that leads out of HTTP: urllib alone allows FTP."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(("http://", "https://")):
            raise urllib.error.HTTPError(newurl, code, msg, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpClient:
    """Reads pages and files from servers."""

    tokens: Mapping[str, str] = field(default_factory=dict)  # by host: of an Authorization header
    backoff: Backoff = BACKOFF

    def read_page(self, url: str, *, accept: str = "*/*") -> tuple[str, bytes, str]:
        """Return the final address of a page, its bytes and its content type."""

        def read() -> tuple[str, bytes, str]:
            with self._open(url, {"Accept": accept}) as answer:
                data = answer.read(MAX_PAGE_BYTES + 1)
                if len(data) > MAX_PAGE_BYTES:
                    raise _TooLongError(f"more than {MAX_PAGE_BYTES:,} bytes")
                return answer.url, data, answer.headers.get_content_type()

        page: tuple[str, bytes, str] = self._retry(url, read)
        return page

    def read_json(self, url: str, *, accept: str = "application/json") -> Any:
        """Return the value of a JSON page."""
        _, data, _ = self.read_page(url, accept=accept)
        try:
            return json.loads(data)
        except ValueError as error:
            raise ConfigurationError(
                f"{hide_password(url)} is not JSON; check that it is the address of an index"
            ) from error

    def download(self, url: str, path: str, *, limit_bytes: int, on_progress: Progress) -> None:
        """Download a file of at most so many bytes.

        Raises
        ------
        ConfigurationError
            If there is no such file, it may not be read, or it is larger.
        Unavailable
            If the server cannot be reached, or fails again and again.
        """
        reception = _Reception(path=path, limit_bytes=limit_bytes, on_progress=on_progress)

        def receive() -> None:
            headers = {"Accept-Encoding": "identity"}
            if reception.received and reception.tag:
                headers |= {"Range": f"bytes={reception.received}-", "If-Range": reception.tag}
            with self._open(url, headers) as answer:
                reception.read(answer, continues=answer.status == http.client.PARTIAL_CONTENT)

        self._retry(url, receive)

    def _retry(self, url: str, call: Callable[[], Any]) -> Any:
        def translate() -> Any:
            try:
                return call()
            except (http.client.HTTPException, urllib.error.URLError, ValueError) as error:
                raise _translate_error(url, error) from error
            except (TimeoutError, ConnectionError, ssl.SSLError) as error:
                raise _build_unreachable(url, error) from error
            except OSError as error:
                if error.errno not in UNREACHABLE_ERRNOS:  # it may be about the file
                    raise
                raise _build_unreachable(url, error) from error
            except _TooLongError as error:
                raise ConfigurationError(
                    f"{hide_password(url)} sends {error}, more than expected; check 'source', "
                    "'size_bytes' and 'download_bytes'"
                ) from error

        return retry(
            translate,
            backoff=self.backoff,
            should_retry=lambda error: isinstance(error, TransientError),
            attempts=ATTEMPTS,
        )

    def _open(self, url: str, headers: Mapping[str, str]) -> Any:
        address, authorization = _split_credentials(url)
        request = urllib.request.Request(  # noqa: S310 - sources and indexes are http or https
            address, headers={"User-Agent": "segue", **headers}
        )
        if request.type not in {"http", "https"}:
            raise ConfigurationError(f"{hide_password(url)!r} is not an address of HTTP")
        token = authorization or self.tokens.get(request.host)
        if token:
            request.add_unredirected_header("Authorization", token)  # for this host alone
        tls = urllib.request.HTTPSHandler(context=_build_tls_context())
        return urllib.request.build_opener(_HttpRedirects, tls).open(request, timeout=TIMEOUT_S)


def _split_credentials(url: str) -> tuple[str, str | None]:
    parts = urllib.parse.urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    encoded = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
    return urllib.parse.urlunsplit(parts._replace(netloc=host)), f"Basic {encoded}"


def _build_tls_context() -> ssl.SSLContext:
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("PIP_CERT")
    return ssl.create_default_context(cafile=bundle or None)


def _translate_error(url: str, error: Exception) -> SegueError:
    place = hide_password(url)
    if not isinstance(error, urllib.error.HTTPError):
        return _build_unreachable(url, error)
    error.close()
    if 300 <= error.code < 400:
        return ConfigurationError(
            f"{place} leads to an address that is not of HTTP, or in a circle (HTTP {error.code}); "
            "check 'source'"
        )
    if error.code in GONE:
        return ConfigurationError(
            f"{place} is gone, or never was there (HTTP {error.code}); check 'source', or that the "
            "index has this package"
        )
    if error.code in FORBIDDEN:
        return ConfigurationError(
            f"{place} may not be read (HTTP {error.code}); give the credentials that it needs"
        )
    return Unavailable(f"{place} does not work at the moment (HTTP {error.code})")


def _build_unreachable(url: str, error: Exception) -> Unavailable:
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return Unavailable(
        f"{hide_password(url)} cannot be reached or stops halfway ({reason}); check the network, "
        "and HTTPS_PROXY if there is a proxy"
    )
