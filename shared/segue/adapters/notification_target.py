"""Where notifications go: a webhook, or a topic of Pub/Sub.

The URL of a webhook is a secret: services put tokens into its path or query. Only its host is ever
shown, and nothing of it is recorded.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import IO, Protocol

from segue.errors import ConfigurationError, Unavailable

CALL_S = 10.0
TOPIC = re.compile(
    r"pubsub://(projects/[a-z][-a-z0-9:.]{4,61}[a-z0-9]/topics/[A-Za-z][-A-Za-z0-9_.~+%]{2,254})"
)
FORMS = "write https://host/path, or pubsub://projects/PROJECT/topics/TOPIC"
UNQUOTED = "/%:@!$&'()*+,;=~-._"  # in a path, as it may be quoted already
BUSY = frozenset({408, 425, 429})


class NotificationTarget(Protocol):
    """Takes notifications."""

    name: str  # what may be shown of it

    def send(self, data: bytes, attributes: Mapping[str, str]) -> None:
        """Send a JSON document once.

        Raises ``Unavailable`` if another attempt may succeed, else ``ConfigurationError``.
        """


def parse_target(url: str) -> NotificationTarget:
    """Return the target of a URL; nothing is sent.

    Raises
    ------
    ConfigurationError
        If it is neither a webhook, encrypted or on this machine, nor a topic; the message has no
        more of the URL than the host.
    """
    if url.startswith("pubsub:"):
        found = TOPIC.fullmatch(url)
        if found is None:
            raise ConfigurationError(f"a URL to notify is not that of a topic; {FORMS}")
        return PubsubTopic(found[1])
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urllib.parse.urlsplit("")
    if url.count("@") > parts.netloc.count("@"):  # what looks like the host may be a password
        raise ConfigurationError(
            "a URL to notify has an @ after its host, or a password with a #, / or ?; "
            "write https://host/path, with %40 for @, %23 for #, %2F for / and %3F for ?"
        )
    if parts.scheme not in ("https", "http") or not host or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ConfigurationError(f"a URL to notify is not that of a webhook; {FORMS}")
    if parts.scheme == "http" and not _is_this_machine(host):
        raise ConfigurationError(
            f"a notification to {host} would not be encrypted; write https://, or use a host "
            "of this machine, such as http://localhost:8080/"
        )
    return Webhook(parts, host, port)


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it might lead to a host that must not know what is sent."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: http.client.HTTPMessage,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        """Return no request."""
        return


class Webhook:
    """A URL to which JSON is posted; its user and password become basic authentication."""

    def __init__(self, parts: urllib.parse.SplitResult, host: str, port: int | None) -> None:
        shown = f"[{host}]" if ":" in host else host
        place = f"{shown}:{port}" if port is not None else shown
        self.name = f"{parts.scheme}://{place}/…"
        path = urllib.parse.quote(parts.path or "/", safe=UNQUOTED)
        query = urllib.parse.quote(parts.query, safe=f"{UNQUOTED}?")
        self._url = urllib.parse.urlunsplit((parts.scheme, place, path, query, ""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "segue"}
        if parts.username is not None:
            words = map(urllib.parse.unquote, (parts.username, parts.password or ""))
            token = base64.b64encode(":".join(words).encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        # A proxy cannot reach this machine.
        proxies: dict[str, str] | None = {} if parts.scheme == "http" else None
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies),
            urllib.request.HTTPSHandler(context=ssl.create_default_context()),
            _NoRedirect(),
        )

    def send(self, data: bytes, attributes: Mapping[str, str]) -> None:  # noqa: ARG002
        """Post a JSON document; any response from 200 to 299 will do."""
        request = urllib.request.Request(  # noqa: S310 - its scheme is one of two
            self._url, data=data, headers=self._headers, method="POST"
        )
        try:
            self._opener.open(request, timeout=CALL_S).close()
        except urllib.error.HTTPError as error:
            error.close()
            said = f"{self.name} responded {error.code}"
            if error.code >= 500 or error.code in BUSY:
                raise Unavailable(said) from None
            raise ConfigurationError(said) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None)
            why = type(error).__name__ if reason is None else type(reason).__name__
            # The text of an error may have the URL, which is not to be shown.
            raise Unavailable(f"{self.name} cannot be reached ({why})") from None


class PubsubTopic:
    """A topic of Pub/Sub, to which a message is published."""

    def __init__(self, topic: str) -> None:
        self.name = f"pubsub://{topic}"
        self._topic = topic

    def send(self, data: bytes, attributes: Mapping[str, str]) -> None:
        """Publish a message with attributes."""
        from segue.adapters.pubsub import publish_once

        publish_once(self._topic, data, attributes, timeout_s=CALL_S)
