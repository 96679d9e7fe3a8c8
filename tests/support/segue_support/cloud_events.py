"""CloudEvents as Cloud Storage and Pub/Sub send them, for tests of the functions.

Their forms: https://github.com/googleapis/google-cloudevents (StorageObjectData,
MessagePublishedData), in binary or structured mode of the HTTP protocol binding.
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING, Any, Literal

from segue.model.media_file import split_uri

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

    from segue.model.media_file import MediaFile

Change = Literal["finalized", "deleted", "archived"]


def object_event(change: Change, media: MediaFile, **data: Any) -> CloudEvent:
    """The event that a version of a file has come or gone; ``data`` replaces some of it."""
    bucket, name = split_uri(media.uri)
    told = {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{media.generation}",
        "bucket": bucket,
        "name": name,
        "generation": str(media.generation),
        "metageneration": "1",
        "contentType": media.content_type or "audio/wav",
        "size": str(media.size_bytes),
        "storageClass": "STANDARD",
        "timeCreated": "2026-01-02T03:04:05.678Z",
        "updated": "2026-01-02T03:04:05.678Z",
        "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg==",
        "crc32c": (media.checksum or "crc32c:AAAAAA==").removeprefix("crc32c:"),
        "etag": "CL+/v7+/v78CEAE=",
        **data,
    }
    return event(f"google.cloud.storage.object.v1.{change}", told, subject=f"objects/{name}")


def message_event(data: bytes = b"{}") -> CloudEvent:
    """The event that a message was published, as a schedule does."""
    told = {
        "message": {
            "data": base64.b64encode(data).decode(),
            "attributes": {},
            "messageId": uuid.uuid4().hex,
            "publishTime": "2026-01-02T03:04:05.678Z",
        },
        "subscription": "projects/acme/subscriptions/eventarc-sweep",
    }
    return event("google.cloud.pubsub.topic.v1.messagePublished", told)


def event(type_: str, data: Any, **attributes: str) -> CloudEvent:
    """Any event."""
    from cloudevents.http import CloudEvent

    given = {"type": type_, "source": "//storage.googleapis.com/projects/_", **attributes}
    return CloudEvent({"datacontenttype": "application/json", **given}, data)


def binary(sent: CloudEvent) -> tuple[dict[str, str], bytes]:
    """Headers and body with the attributes in headers, as Eventarc sends them."""
    attributes = sent.get_attributes()
    headers = {
        f"ce-{name}": _ascii(str(value))
        for name, value in attributes.items()
        if name != "datacontenttype"
    }
    headers["Content-Type"] = str(attributes["datacontenttype"])
    return headers, json.dumps(sent.data).encode()


def structured(sent: CloudEvent) -> tuple[dict[str, str], bytes]:
    """Headers and body with everything in the body."""
    body = json.dumps({**sent.get_attributes(), "data": sent.data}).encode()
    return {"Content-Type": "application/cloudevents+json"}, body


def _ascii(value: str) -> str:
    """A header's value, as section 3.1.3.2 of the HTTP protocol binding encodes it."""
    return "".join(
        c if "!" <= c <= "~" and c not in '"%' else "".join(f"%{b:02X}" for b in c.encode())
        for c in value
    )
