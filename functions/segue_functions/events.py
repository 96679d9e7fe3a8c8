"""CloudEvents are parsed once, here, into values of the library.

Their schemas are those of https://github.com/googleapis/google-cloudevents: StorageObjectData and
MessagePublishedData. A bucket of another project sends its objects in messages instead,
https://cloud.google.com/storage/docs/pubsub-notifications. A folder's events have the schema of
objects, with an empty bucket and no generation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from segue.errors import PermanentError
from segue.ingest.sweep import LIMIT
from segue.model.media_file import MediaFile, is_unicode

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

FINALIZED = "google.cloud.storage.object.v1.finalized"
DELETED = "google.cloud.storage.object.v1.deleted"
# What a bucket with object versioning sends instead when the live version of an object goes.
ARCHIVED = "google.cloud.storage.object.v1.archived"
PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
# What a bucket's notification calls an event → its type.
NOTIFICATIONS = {
    "OBJECT_FINALIZE": FINALIZED,
    "OBJECT_DELETE": DELETED,
    "OBJECT_ARCHIVE": ARCHIVED,
}
MAX_CONTENT_TYPE = 8192  # characters; all metadata of an object may have so many bytes
MAX_SWEEP_LIMIT = 100_000  # messages per run; a function's timeout allows no more

T = TypeVar("T")


class MalformedEvent(PermanentError):
    """An event that the function cannot read; a retry would not help."""


class _Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of StorageObjectData that Segue reads; numbers may come as strings."""

    bucket: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]*\Z", max_length=222)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    generation: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] | None = None
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    content_type: Annotated[str, msgspec.Meta(max_length=MAX_CONTENT_TYPE)] | None = None
    crc32c: Annotated[str, msgspec.Meta(max_length=8)] | None = None  # base64 of four bytes


class _Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of a PubsubMessage that Segue reads."""

    data: bytes = b""  # base64
    attributes: dict[str, str] | None = None


class _Published(msgspec.Struct, frozen=True, kw_only=True):
    message: _Message


class SweepOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of a sweep, as the schedule sends them."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_SWEEP_LIMIT)] = LIMIT


# Built here, before threads share them: msgspec 0.22 crashes if several use a type first at once.
_OBJECT = msgspec.json.Decoder(_Object, strict=False)
_PUBLISHED = msgspec.json.Decoder(_Published, strict=False)
_decode_sweep_order = msgspec.json.Decoder(SweepOrder).decode


def parse_media(event: CloudEvent, *types: str) -> MediaFile:
    """Return the version of a file that an event of Cloud Storage, or a notification, is about.

    The event of a file in a folder is about no certain version.
    """
    type_, data = event["type"], event.data
    if type_ == PUBLISHED:
        type_, data = _unwrap_notification(data)
    stored = _parse(type_, data, types, _OBJECT, "an object of Cloud Storage")
    place = f"gs://{stored.bucket}" if stored.bucket else "file://"
    uri = f"{place}/{stored.name}"
    if not is_unicode(uri):
        raise MalformedEvent(f"the name {stored.name!r} is not UTF-8 text; rename the file")
    if not stored.bucket:
        return MediaFile(uri=uri, version="")
    if stored.generation is None:
        raise MalformedEvent(f"the object {uri!r} has no generation; check the sender")
    return MediaFile(
        uri=uri,
        version=str(stored.generation),
        order=stored.generation,
        size_bytes=stored.size,
        content_type=stored.content_type,
        checksum=f"crc32c:{stored.crc32c}" if stored.crc32c else None,
    )


def parse_sweep_order(event: CloudEvent) -> SweepOrder:
    """Return the parameters in the message of a schedule; an empty message means the defaults."""
    data = _parse_message(event["type"], event.data).data
    try:
        return _decode_sweep_order(data) if data.strip() else SweepOrder()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEvent(
            f"the message is not a sweep order ({error}); let the schedule send "
            f'{{"limit": {LIMIT}}}, or {{}}'
        ) from error


def _parse_message(type_: str, data: Any) -> _Message:
    return _parse(type_, data, (PUBLISHED,), _PUBLISHED, "a message of Pub/Sub").message


def _unwrap_notification(data: Any) -> tuple[str, bytes]:
    """Return the type of the event and the data of the object in a bucket's notification."""
    message = _parse_message(PUBLISHED, data)
    name = (message.attributes or {}).get("eventType", "")
    if name not in NOTIFICATIONS:
        raise MalformedEvent(
            f"the message has the eventType {name!r}, which is none of a bucket's notifications "
            f"({', '.join(NOTIFICATIONS)}); let only the bucket publish to the topic"
        )
    return NOTIFICATIONS[name], message.data


def _parse(
    type_: str, data: Any, types: tuple[str, ...], decoder: msgspec.json.Decoder[T], noun: str
) -> T:
    """Check an event's type and return its data, which the framework may have decoded."""
    if type_ not in types:
        raise MalformedEvent(
            f"the type is {type_!r}, not {types[0]!r}; correct the trigger of the function"
        )
    try:
        if isinstance(data, str | bytes):
            return decoder.decode(data)
        return msgspec.convert(data, decoder.type, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        rule = f"that of {noun}" if isinstance(error, msgspec.ValidationError) else "JSON"
        raise MalformedEvent(f"the data is not {rule} ({error}); check the sender") from error
