"""Events as Cloud Storage and Pub/Sub send them through Eventarc: CloudEvents in binary mode.

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
# Printable ASCII without space, quotation mark and percent sign stands in a header as it is.
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

    def headers(self) -> dict[str, str]:
        """The event's attributes."""
        found = {
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-type": self.type,
            "ce-source": _header(self.source),
            "ce-time": _time(self.time),
            "content-type": "application/json",
        }
        return found if self.subject is None else {**found, "ce-subject": _header(self.subject)}

    def body(self) -> bytes:
        """The event's data."""
        return json.dumps(self.data).encode()


def finalized(media: MediaFile, *, now: datetime) -> CloudEvent:
    """Tell that a version of a file is there."""
    return _of_storage(FINALIZED, media, now)


def deleted(media: MediaFile, *, now: datetime) -> CloudEvent:
    """Tell that a version of a file is gone."""
    return _of_storage(DELETED, media, now)


def published(*, project: str, topic: str, now: datetime) -> CloudEvent:
    """Tell that an empty message was published: how a schedule wakes a function."""
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
                "publishTime": _time(now),
            },
            "subscription": f"projects/{project}/subscriptions/{topic}",
        },
    )


def _of_storage(kind: str, media: MediaFile, now: datetime) -> CloudEvent:
    """A folder's file has no bucket, and is named by its whole path."""
    data = {
        "kind": "storage#object",
        "bucket": media.bucket,
        "name": media.name,
        "generation": str(media.generation),
        "metageneration": "1",
        "size": str(media.size_bytes),
        "contentType": media.content_type,
        "timeCreated": _time(now),
        "updated": _time(now),
    }
    return CloudEvent(
        id=secrets.token_hex(8),
        type=kind,
        source=f"//storage.googleapis.com/projects/_/buckets/{media.bucket}",
        subject=f"objects/{media.name}",
        time=now,
        data={key: value for key, value in data.items() if value is not None},
    )


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _header(value: str) -> str:
    return urllib.parse.quote(value, safe=PLAIN, errors="surrogateescape")


class Refused(PermanentError):
    """The function will never take this event."""


class Poster:
    """Posts events to one server, over a connection that is kept; for one thread.

    ``address`` is asked for each connection, since a server that was started again has another. It
    raises ``Unavailable`` while there is none.
    """

    def __init__(self, address: Callable[[], tuple[str, int]]) -> None:
        self._address = address
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, event: CloudEvent) -> None:
        """Send an event; on return, the function has done its work.

        A server that is away or in trouble raises ``Unavailable``: it may have done it all the
        same. One that says no raises ``Refused``.
        """
        kept = self._connection is not None
        try:
            status, text = self._send(path, event)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not kept:
                raise Unavailable(
                    f"the function server does not answer ({type(error).__name__}: {error}); the "
                    "event is sent again"
                ) from error
            # A connection that was kept may have been closed by the other side long ago.
            self.post(path, event)
            return
        if status >= 500 or status == BUSY:
            raise Unavailable(f"{path} answered {status}: {text[:200]}; the event is sent again")
        if status >= 300:
            raise Refused(f"{path} answered {status}: {text[:200]}; the event is dropped")

    def _send(self, path: str, event: CloudEvent) -> tuple[int, str]:
        if self._connection is None:
            host, port = self._address()
            self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        self._connection.request("POST", path, event.body(), event.headers())
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
