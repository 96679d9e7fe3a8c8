"""Who may use the console, and what its pages may do.

On a laptop each start makes a token, which is a part of the address that is printed, as notebooks
do it; the browser then has a cookie. Behind Identity-Aware Proxy, Google says who the reader is.
Every response has a content security policy without exceptions, so that a name or a tag that a
stranger wrote can do nothing but be read.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"  # noqa: S105 - the name of the parameter
CSRF = "csrf"
SAFE_METHODS = frozenset({"GET", "HEAD"})
# https://www.w3.org/TR/fetch-metadata/; another port of this host is the same site, by the cookies.
FOREIGN_SITES = frozenset({"cross-site", "same-site"})
MAX_FORM_BYTES = 1 << 20
PROXY_HEADER = "x-goog-iap-jwt-assertion"
PROXY_ISSUER = "https://cloud.google.com/iap"
# A media file that a browser opened by itself must not act as a page.
SANDBOX = "sandbox; default-src 'none'"


class Refused(Exception):
    """A request that the console does not answer, with the reason for people."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Access(Protocol):
    """Decides who may read."""

    def find_reader(self, request: Request) -> str:
        """Return who reads, or raise `Refused`."""

    def admit(self, request: Request) -> Response | None:
        """Return the response that lets a new reader in, or None if the request is not one."""


def create_token() -> str:
    """Return a new token."""
    return secrets.token_urlsafe(24)


class TokenAccess:
    """Lets in who knows the token of this start, on this machine.

    Parameters
    ----------
    token : str
    port : int
        Cookies are shared by all ports of a host, so its name has the port.
    """

    def __init__(self, token: str, port: int) -> None:
        self._token = token
        self._cookie = f"segue-console-{port}"
        self._once: set[str] = set()

    def create_single_use(self) -> str:
        """Return a token that lets one browser in: it is seen where the browser is started."""
        token = create_token()
        self._once.add(token)
        return token

    def admit(self, request: Request) -> Response | None:
        """Turn a token in the address into a cookie, and remove it from the address."""
        given = request.query_params.get(TOKEN)
        if given is None or request.method != "GET":
            return None
        if given in self._once:
            self._once.remove(given)
        elif not _is_equal(given, self._token):
            raise Refused(
                403,
                "The token is of another start, or was used; open the address that was printed.",
            )
        rest = [(k, v) for k, v in request.query_params.multi_items() if k != TOKEN]
        # With two slashes at its beginning, a path would name another host.
        path = f"/{request.url.path.lstrip('/')}" + (f"?{urlencode(rest)}" if rest else "")
        response = RedirectResponse(path, status_code=303)
        response.set_cookie(self._cookie, self._sign("reader"), httponly=True, samesite="lax")
        return response

    def find_reader(self, request: Request) -> str:
        """Return that the reader is the one who started the console."""
        if not _is_equal(request.cookies.get(self._cookie, ""), self._sign("reader")):
            raise Refused(
                403, "Open the console with the address that it printed, which has a token."
            )
        return "you"

    def _sign(self, text: str) -> str:
        return hmac.new(self._token.encode(), text.encode(), hashlib.sha256).hexdigest()


class ProxyAccess:
    """Lets in whom Identity-Aware Proxy has let in, by the proxy's own signature.

    https://cloud.google.com/iap/docs/signed-headers-howto

    Parameters
    ----------
    audience : str
        What the proxy signs for: ``/projects/NUMBER/locations/REGION/services/NAME``.
    verify : callable, optional
        Returns the claims of a token, or raises ``ValueError``.
    """

    def __init__(
        self, audience: str, verify: Callable[[str, str], Mapping[str, Any]] | None = None
    ) -> None:
        self._audience = audience
        self._verify = verify or _build_verifier()

    def admit(self, request: Request) -> Response | None:  # noqa: ARG002
        """Return None: the proxy has asked the reader already."""
        return None

    def find_reader(self, request: Request) -> str:
        """Return the reader's address."""
        signed = request.headers.get(PROXY_HEADER, "")
        try:
            claims = self._verify(signed, self._audience)
        except ValueError as error:
            raise Refused(403, "Open the console through Identity-Aware Proxy.") from error
        if claims.get("iss") != PROXY_ISSUER or not claims.get("email"):
            raise Refused(403, "The signature is not one of Identity-Aware Proxy.")
        return str(claims["email"])


def _build_verifier() -> Callable[[str, str], Mapping[str, Any]]:
    """Return what verifies a signature; the proxy's keys are read again every hour."""
    from segue.adapters.proxy_signature import ProxySignature

    return ProxySignature().verify


class Guard:
    """Checks each request before the pages see it, and adds the headers of each response.

    Parameters
    ----------
    app : ASGIApp
    access : Access
    hosts : collection of str or None
        What a request may be addressed to; another name that leads here is an attack by DNS. None:
        whatever, as a proxy has checked it.
    allow_changes : bool
        Whether any request may change something.
    """

    def __init__(
        self, app: ASGIApp, *, access: Access, hosts: Collection[str] | None, allow_changes: bool
    ) -> None:
        self._app = app
        self._access = access
        self._hosts = None if hosts is None else frozenset(hosts)
        self._allow_changes = allow_changes
        self._secret = secrets.token_bytes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        nonce = secrets.token_urlsafe(16)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(MutableHeaders(scope=message), nonce)
            await send(message)

        try:
            self._check(request)
            response = self._access.admit(request)
            if response is None:
                # In a thread, because the proxy's keys may have to be read.
                reader = await run_in_threadpool(self._access.find_reader, request)
                request.state.nonce, request.state.reader = nonce, reader
                request.state.csrf = self._sign(reader)
        except Refused as refused:
            response = PlainTextResponse(f"{refused.reason}\n", status_code=refused.status)
        await (self._app if response is None else response)(scope, receive, send_with_headers)

    def _check(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if self._hosts is not None and host not in self._hosts:
            raise Refused(421, f"This console is not at {host[:100]!r}.")
        is_foreign = request.headers.get("sec-fetch-site") in FOREIGN_SITES
        if is_foreign and request.headers.get("sec-fetch-mode") != "navigate":  # by a link
            raise Refused(403, "The page of another site may not ask for this.")
        if request.method in SAFE_METHODS:
            return
        if not self._allow_changes:
            raise Refused(405, "This console only reads; start it with --allow-changes.")
        origin = request.headers.get("origin", "")
        if origin.partition("://")[2] != host:
            raise Refused(403, "The form is not one of this console's pages.")

    def _sign(self, reader: str) -> str:
        return hmac.new(self._secret, reader.encode(), hashlib.sha256).hexdigest()


async def read_form(request: Request) -> Mapping[str, list[str]]:
    """Return the fields of a form, once it is known to come from a page of this console."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_FORM_BYTES:
                raise Refused(413, f"The form has more than {MAX_FORM_BYTES:,} bytes.")
    except ClientDisconnect as error:
        raise Refused(400, "The browser left before it had sent the form.") from error
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100_000)
    except ValueError as error:
        raise Refused(400, f"The form cannot be read: {error}.") from error
    if not _is_equal(fields.pop(CSRF, [""])[0], request.state.csrf):
        raise Refused(403, "The page is of an earlier start; load it again.")
    return fields


def _is_equal(given: str, right: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), right.encode())


def _add_headers(headers: MutableHeaders, nonce: str) -> None:
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'nonce-{nonce}'",
            f"style-src 'self' 'nonce-{nonce}'",
            "img-src 'self'",
            "media-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
    headers.setdefault("Content-Security-Policy", policy)
    headers.setdefault("Cache-Control", "no-store")
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    # With no-referrer, a browser would not say which origin a form comes from.
    headers["Referrer-Policy"] = "same-origin"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
