"""CloudEvents as Cloud Storage and Pub/Sub send them, for tests of the functions.

Their formats: https://github.com/googleapis/google-cloudevents (StorageObjectData,
MessagePublishedData), in binary or structured mode of the HTTP protocol binding.
"""

from __future__ import annotations

import base64
import http.client
import json
import uuid
from typing import TYPE_CHECKING, Any, Literal

from segue.errors import Unavailable
from segue.model.media_file import split_uri

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

    from segue.model.media_file import MediaFile

ObjectChange = Literal["finalized", "deleted", "archived"]


def build_object_event(change: ObjectChange, media: MediaFile, **data: Any) -> CloudEvent:
    """Build the event that a version of a file was written or deleted; ``data`` adds fields.

    A file in a folder has no generation.
    """
    bucket, name = split_uri(media.uri)
    payload = {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{media.order}",
        "bucket": bucket,
        "name": name,
        **({"generation": str(media.order)} if media.order is not None else {}),
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
    return build_event(
        f"google.cloud.storage.object.v1.{change}", payload, subject=f"objects/{name}"
    )


def build_notification_event(event_type: str, media: MediaFile) -> CloudEvent:
    """Build the event that carries a notification of a bucket, with the object as its payload.

    https://cloud.google.com/storage/docs/pubsub-notifications
    """
    bucket, name = split_uri(media.uri)
    attributes = {
        "eventType": event_type,
        "bucketId": bucket,
        "objectId": name,
        "objectGeneration": str(media.order),
        "payloadFormat": "JSON_API_V1",
        "notificationConfig": f"projects/_/buckets/{bucket}/notificationConfigs/1",
        "eventTime": "2026-01-02T03:04:05.678Z",
    }
    stored = build_object_event("finalized", media).data
    return build_message_event(json.dumps(stored).encode(), **attributes)


def build_message_event(data: bytes = b"{}", **attributes: str) -> CloudEvent:
    """Build the event that a message was published, as a schedule sends it."""
    payload = {
        "message": {
            "data": base64.b64encode(data).decode(),
            "attributes": attributes,
            "messageId": uuid.uuid4().hex,
            "publishTime": "2026-01-02T03:04:05.678Z",
        },
        "subscription": "projects/acme/subscriptions/eventarc-sweep",
    }
    return build_event("google.cloud.pubsub.topic.v1.messagePublished", payload)


def build_event(type_: str, data: Any, **attributes: str) -> CloudEvent:
    """Build an event."""
    from cloudevents.http import CloudEvent

    defaults = {"type": type_, "source": "//storage.googleapis.com/projects/_", **attributes}
    return CloudEvent({"datacontenttype": "application/json", **defaults}, data)


def to_binary(sent: CloudEvent) -> tuple[dict[str, str], bytes]:
    """Return headers and body in binary mode, attributes in the headers, as Eventarc sends them."""
    attributes = sent.get_attributes()
    headers = {
        f"ce-{name}": _encode_header(str(value))
        for name, value in attributes.items()
        if name != "datacontenttype"
    }
    headers["Content-Type"] = str(attributes["datacontenttype"])
    return headers, json.dumps(sent.data).encode()


def to_structured(sent: CloudEvent) -> tuple[dict[str, str], bytes]:
    """Return headers and body in structured mode, everything in the body."""
    body = json.dumps({**sent.get_attributes(), "data": sent.data}).encode()
    return {"Content-Type": "application/cloudevents+json"}, body


def post_event(port: int, function: str, sent: CloudEvent) -> None:
    """Post an event to a server of functions here; raise ``Unavailable`` unless it succeeds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60.0)
    headers, body = to_binary(sent)
    try:
        connection.request("POST", f"/{function}", body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the server does not answer: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise Unavailable(f"{answer.status}: {text}")


def _encode_header(value: str) -> str:
    """Encode a header's value by section 3.1.3.2 of the HTTP protocol binding."""
    return "".join(
        c if "!" <= c <= "~" and c not in '"%' else "".join(f"%{b:02X}" for b in c.encode())
        for c in value
    )
