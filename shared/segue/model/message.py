"""The messages between pipelines: versioned JSON, parsed once, at the edge.

A message names a file and either an event (the file has arrived, or a job has finished) or a
request (some jobs' results are wanted). It does not say which job runs next: each pipeline plans
what it serves.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from segue.errors import ConfigurationError, UnreadableMessage
from segue.model.graph import DEFAULT_NAMESPACE
from segue.model.media_file import MAX_ORDER, MediaFile, split_uri
from segue.model.record import Record, State

FORMAT: Literal[2] = 2
# NAMESPACE/PIPELINE@QUEUE: the inbox of a pipeline of another namespace.
INBOX = r"^[a-z][-a-z0-9]{0,29}/[A-Za-z0-9_.-]+@(pubsub://[^\s]+|sqlite:///[^\0]+)\Z"
# The parts of an artifact's name, which another namespace must not lead to another place.
Version = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{0,32}\Z")]
Fingerprint = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{12}\Z")]
Suffix = Annotated[str, msgspec.Meta(pattern=r"^([a-z][a-z0-9_]*\.)?[a-z0-9]+\Z")]


class Arrived(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a new file's record contains, so that the first reader of the event need not read it."""

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    revision: str = ""  # of the record in its ledger; empty: it was not made there yet
    stat: str | None = None
    size_bytes: int = 0
    content_type: str | None = None
    checksum: str | None = None


class PublishedResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has become of a published job for one version of a file, for other namespaces."""

    state: State | None  # None: nobody computes it under this fingerprint, any more or yet
    fingerprint: Fingerprint
    equivalents: tuple[Fingerprint, ...] = ()  # older fingerprints that it stands for
    checksums: dict[Suffix, str] = {}  # as in an entry


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event or a request about one version of a file, or the response to a request.

    A response goes to another namespace that has requested a result, and only to that one. Without
    a result it says that the file has another version by now, or was deleted.
    """

    format: Literal[2] = FORMAT
    namespace: str = DEFAULT_NAMESPACE  # whose jobs are meant
    uri: str
    version: Version
    order: Annotated[int, msgspec.Meta(ge=0, le=MAX_ORDER)]
    # An event or a response: "source" or the job that has finished; None: a request.
    trigger: str | None = None
    is_response: bool = False
    is_deleted: bool = False  # the file was deleted
    is_erased: bool = False  # and may never come back
    result: PublishedResult | None = None  # of the trigger, for other namespaces
    arrived: Arrived | None = None  # of a file that is probably new to whoever gets the message
    targets: tuple[str, ...] = ()  # a request: the jobs whose results are wanted
    # A request of another namespace: the result that it is locked to, and its inbox.
    fingerprint: Fingerprint | None = None
    reply_to: Annotated[str, msgspec.Meta(pattern=INBOX, max_length=2000)] | None = None
    ping: bool = False  # walk the graph without doing any work
    request: str | None = None  # the id of the request that it belongs to
    attempt: Annotated[int, msgspec.Meta(ge=1, le=2**31)] = 1
    # A request: how often it was passed on since a result was recorded. Where two deployments
    # are at work, each may have another view of what is missing. A deletion: how often in all.
    hops: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0

    @property
    def media(self) -> MediaFile:
        """The version of the file, as far as the message describes it."""
        if self.arrived is None:
            return MediaFile(uri=self.uri, version=self.version, order=self.order)
        return MediaFile(
            uri=self.uri,
            version=self.version,
            order=self.order,
            stat=self.arrived.stat,
            size_bytes=self.arrived.size_bytes,
            content_type=self.arrived.content_type,
            checksum=self.arrived.checksum,
        )


def describe_arrival(record: Record, revision: str = "") -> Arrived:
    """Return what a message tells of a record that was just created."""
    return Arrived(
        at=record.arrived_at,
        revision=revision,
        stat=record.stat,
        size_bytes=record.size_bytes,
        content_type=record.content_type,
        checksum=record.checksum,
    )


def build_request_id(now: datetime) -> str:
    """Return a unique id for a request; later ids are greater."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"


def encode_message(message: Message) -> bytes:
    """Return a message's bytes, always with the format."""
    return msgspec.json.encode({"format": FORMAT, **msgspec.to_builtins(message)})


_decode = msgspec.json.Decoder(Message).decode


def decode_message(data: bytes) -> Message:
    """Parse and check a message, or raise ``UnreadableMessage``."""
    try:
        message = _decode(data)
        split_uri(message.uri)
        _check_kind(message)
    except (
        msgspec.MsgspecError,
        UnicodeDecodeError,
        RecursionError,
        ConfigurationError,
    ) as error:
        raise UnreadableMessage(
            f"{data[:80]!r} is not a message of format {FORMAT} ({error}); "
            "it goes to the dead letters"
        ) from error
    return message


def _check_kind(message: Message) -> None:
    """Check that a message is an event, a request or a response, and not some of each.

    Whoever may only request a result must not have a file deleted.
    """
    if message.trigger is None and (message.is_deleted or message.is_response):
        raise msgspec.ValidationError("an event or a response needs a trigger")
    if message.reply_to is None:
        return
    if message.trigger is not None or message.fingerprint is None or len(message.targets) != 1:
        raise msgspec.ValidationError(
            "a request with reply_to needs one target and its fingerprint, and no trigger"
        )
