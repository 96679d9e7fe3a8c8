"""What CloudEvents tell: parsed once, here, into values of the core.

The forms are those of https://github.com/googleapis/google-cloudevents: StorageObjectData and
MessagePublishedData. A folder's events have the same form, with an empty bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from segue.errors import PermanentError
from segue.ingest.sweep import LIMIT
from segue.model.media_file import MediaFile

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

FINALIZED = "google.cloud.storage.object.v1.finalized"
DELETED = "google.cloud.storage.object.v1.deleted"
# What a bucket with object versioning tells instead when the live version of an object goes.
ARCHIVED = "google.cloud.storage.object.v1.archived"
PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
MOST_SWEPT = 100_000  # messages a run; more would not be published within a function's time

T = TypeVar("T")


class MalformedEvent(PermanentError):
    """An event that is none of those that the function is for; sent again it would be the same."""


class _Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of StorageObjectData that Segue reads; numbers may come as strings."""

    bucket: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]*\Z", max_length=222)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    generation: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    content_type: str | None = None
    crc32c: str | None = None


class _Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of a PubsubMessage that Segue reads."""

    data: bytes = b""  # base64
    message_id: str | None = None


class _Published(msgspec.Struct, frozen=True, kw_only=True):
    message: _Message


class SweepOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the schedule says of a sweep."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_SWEPT)] = LIMIT


def media_of(event: CloudEvent, *types: str) -> MediaFile:
    """Return the version of a file that an event of Cloud Storage tells of."""
    found = _converted(_data(event, types), _Object)
    place = f"gs://{found.bucket}" if found.bucket else "file://"
    uri = f"{place}/{found.name}"
    if not _is_unicode(uri):
        raise MalformedEvent(f"the name {found.name!r} is not UTF-8 text; rename the file")
    return MediaFile(
        uri=uri,
        generation=found.generation,
        size_bytes=found.size,
        content_type=found.content_type,
        checksum=f"crc32c:{found.crc32c}" if found.crc32c else None,
    )


def sweep_order_of(event: CloudEvent) -> SweepOrder:
    """Return what the message of a schedule says; an empty one says nothing."""
    data = _converted(_data(event, (PUBLISHED,)), _Published).message.data
    try:
        return msgspec.json.decode(data, type=SweepOrder) if data.strip() else SweepOrder()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEvent(
            f"the message is no order to sweep ({error}); let the schedule send "
            f'{{"limit": {LIMIT}}}, or {{}}'
        ) from error


def _data(event: CloudEvent, types: tuple[str, ...]) -> Any:
    if event["type"] not in types:
        raise MalformedEvent(
            f"the type is {event['type']!r}, not {types[0]!r}; correct the trigger of the function"
        )
    data = event.data
    if not isinstance(data, str | bytes):  # of JSON, the framework has made a value
        return data
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEvent(f"the data is not JSON ({error}); look at who sent it") from error


def _converted(data: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(data, kind, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        noun = "an object of Cloud Storage" if kind is _Object else "a message of Pub/Sub"
        raise MalformedEvent(f"the data is not of {noun} ({error}); look at who sent it") from error


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
