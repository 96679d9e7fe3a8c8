"""Builds and posts events as Cloud Storage and Pub/Sub send them through Eventarc: CloudEvents in
binary mode.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from segue.errors import PermanentError, Unavailable
from segue.model.media_file import MediaFile

FINALIZED = "google.cloud.storage.object.v1.finalized"
DELETED = "google.cloud.storage.object.v1.deleted"
PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
TIMEOUT_S = 60.0
BUSY = 429
# Characters that need no escape in a header: printable ASCII but space, quotation mark and percent.
PLAIN = "".join(map(chr, range(0x21, 0x7F))).replace('"', "").replace("%", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """One event, as it is sent."""

    id: str
    type: str
    source: str
    subject: str | None = None
    time: datetime
    data: Mapping[str, object]

    def build_headers(self) -> dict[str, str]:
        """Return the event's attributes as HTTP headers."""
        headers = {
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-type": self.type,
            "ce-source": _quote(self.source),
            "ce-time": _format_time(self.time),
            "content-type": "application/json",
        }
        return headers if self.subject is None else {**headers, "ce-subject": _quote(self.subject)}

    def encode_body(self) -> bytes:
        """Return the event's data as JSON."""
        return json.dumps(self.data).encode()


def build_finalized_event(media: MediaFile, *, now: datetime) -> CloudEvent:
    """Build the event of a new version of a file."""
    return _build_storage_event(FINALIZED, media, now)


def build_deleted_event(media: MediaFile, *, now: datetime) -> CloudEvent:
    """Build the event of a deleted version of a file."""
    return _build_storage_event(DELETED, media, now)


def build_published_event(*, project: str, topic: str, now: datetime) -> CloudEvent:
    """Build the event of an empty Pub/Sub message, by which a schedule triggers a function."""
    number = secrets.token_hex(8)
    return CloudEvent(
        id=number,
        type=PUBLISHED,
        source=f"//pubsub.googleapis.com/projects/{project}/topics/{topic}",
        time=now,
        data={
            "message": {
                "data": base64.b64encode(b"{}").decode(),
                "attributes": {},
                "messageId": number,
                "publishTime": _format_time(now),
            },
            "subscription": f"projects/{project}/subscriptions/{topic}",
        },
    )


def _build_storage_event(kind: str, media: MediaFile, now: datetime) -> CloudEvent:
    """Build an event of Cloud Storage; a local file has no bucket, and its name is its path."""
    data = {
        "kind": "storage#object",
        "bucket": media.bucket,
        "name": media.name,
        "generation": str(media.generation),
        "metageneration": "1",
        "size": str(media.size_bytes),
        "contentType": media.content_type,
        "timeCreated": _format_time(now),
        "updated": _format_time(now),
    }
    return CloudEvent(
        id=secrets.token_hex(8),
        type=kind,
        source=f"//storage.googleapis.com/projects/_/buckets/{media.bucket}",
        subject=f"objects/{media.name}",
        time=now,
        data={key: value for key, value in data.items() if value is not None},
    )


def _format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quote(value: str) -> str:
    return urllib.parse.quote(value, safe=PLAIN, errors="surrogateescape")


class Refused(PermanentError):
    """The function refused an event for good."""


class EventPoster:
    """Posts events to one server over a persistent connection; for one thread.

    ``address`` is called for each connection, since a restarted server has a new address. It raises
    ``Unavailable`` while there is no server.
    """

    def __init__(self, address: Callable[[], tuple[str, int]]) -> None:
        self._address = address
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, event: CloudEvent) -> None:
        """Send an event; the function has processed it on return.

        Raises ``Unavailable`` if the server is unreachable or fails, although it may have processed
        the event; and ``Refused`` if the function refuses the event.
        """
        is_reused = self._connection is not None
        try:
            status, text = self._send(path, event)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not is_reused:
                raise Unavailable(
                    f"the function server does not answer ({type(error).__name__}: {error}); the "
                    "event will be sent again"
                ) from error
            # The server may have closed a reused connection long ago.
            self.post(path, event)
            return
        if status >= 500 or status == BUSY:
            raise Unavailable(
                f"{path} answered {status}: {text[:200]}; the event will be sent again"
            )
        if status >= 300:
            raise Refused(f"{path} answered {status}: {text[:200]}; the event is dropped")

    def _send(self, path: str, event: CloudEvent) -> tuple[int, str]:
        if self._connection is None:
            host, port = self._address()
            self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        self._connection.request("POST", path, event.encode_body(), event.build_headers())
        response = self._connection.getresponse()
        text = response.read().decode(errors="replace")
        if response.will_close:
            self.close()
        return response.status, text

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
