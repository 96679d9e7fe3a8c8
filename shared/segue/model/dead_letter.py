"""Dead letters: messages that a pipeline could not process, kept with the reason until replayed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from segue.errors import UnreadableMessage
from segue.model.media_file import MAX_ORDER
from segue.model.queue import DEAD_TOPIC, Envelope
from segue.model.record import Failure

FORMAT: Literal[2] = 2
MAX_TEXT = 2000  # of an error
MAX_PAYLOAD_BYTES = 256 * 1024  # a message is a few hundred


class Stage(StrEnum):
    """Where processing failed."""

    DECODE = "decode"  # the bytes are not a message
    ROUTE = "route"  # the message is for another namespace
    RUN = "run"  # the job failed on the file


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message that could not be processed."""

    format: Literal[2] = FORMAT
    stage: Stage
    pipeline: str  # on whose topic the message was
    job: str | None = None  # that failed
    kind: str  # one of segue.errors.Kind
    type: str  # the exception's class
    error: str
    data: bytes = msgspec.field(name="payload")  # the message's bytes as received; base64 in JSON
    uri: str | None = None
    version: str | None = None  # of the file
    order: Annotated[int, msgspec.Meta(ge=0, le=MAX_ORDER)] | None = None
    at: datetime


def build_dead_letter(
    *,
    stage: Stage,
    pipeline: str,
    job: str | None = None,
    error: Failure,
    data: bytes,
    uri: str | None = None,
    version: str | None = None,
    order: int | None = None,
    at: datetime,
) -> DeadLetter:
    """Return a dead letter, with error and payload cut to a bounded size."""
    return DeadLetter(
        stage=stage,
        pipeline=pipeline,
        job=job,
        kind=error.kind,
        type=error.type,
        error=error.message[:MAX_TEXT],
        data=data[:MAX_PAYLOAD_BYTES],
        uri=uri,
        version=version,
        order=order,
        at=at,
    )


def dead_letter_to_envelope(dead: DeadLetter) -> Envelope:
    """Wrap a dead letter for its pipeline's dead-letter topic."""
    data = msgspec.json.encode({"format": FORMAT, **msgspec.to_builtins(dead)})
    return Envelope(
        topic=DEAD_TOPIC,
        data=data,
        attributes={"stage": dead.stage, "kind": dead.kind},
    )


_decode = msgspec.json.Decoder(DeadLetter).decode


def decode_dead_letter(data: bytes) -> DeadLetter:
    """Parse and check a dead letter, or raise ``UnreadableMessage``."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableMessage(
            f"{data[:80]!r} is not a dead letter of format {FORMAT} ({error}); "
            "another program publishes to this topic; stop it"
        ) from error
