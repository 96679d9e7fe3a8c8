"""Dead letters: messages that a job could not process, kept with the reason until replayed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from segue.errors import UnreadableMessage
from segue.model.message import MAX_GENERATION
from segue.model.queue import Envelope, format_dead_topic
from segue.model.record import Failure

VERSION: Literal[1] = 1
MAX_TEXT = 2000  # of an error
MAX_PAYLOAD_BYTES = 256 * 1024  # a message is a few hundred


class Stage(StrEnum):
    """Where processing failed."""

    DECODE = "decode"  # the bytes are not a message
    ROUTE = "route"  # the message is for a job that is not served here
    RUN = "run"  # the job failed on the file


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message that could not be processed."""

    version: Literal[1] = VERSION
    stage: Stage
    job: str  # whose topic it was on
    kind: str  # one of segue.errors.Kind
    type: str  # the exception's class
    error: str
    data: bytes = msgspec.field(name="payload")  # the message's bytes as received; base64 in JSON
    uri: str | None = None
    generation: Annotated[int, msgspec.Meta(ge=0, le=MAX_GENERATION)] | None = None
    at: datetime


def build_dead_letter(
    *,
    stage: Stage,
    job: str,
    error: Failure,
    data: bytes,
    uri: str | None = None,
    generation: int | None = None,
    at: datetime,
) -> DeadLetter:
    """Return a dead letter, with error and payload cut to a bounded size."""
    return DeadLetter(
        stage=stage,
        job=job,
        kind=error.kind,
        type=error.type,
        error=error.message[:MAX_TEXT],
        data=data[:MAX_PAYLOAD_BYTES],
        uri=uri,
        generation=generation,
        at=at,
    )


def dead_letter_to_envelope(dead: DeadLetter) -> Envelope:
    """Wrap a dead letter for its job's dead-letter topic."""
    data = msgspec.json.encode({"version": VERSION, **msgspec.to_builtins(dead)})
    return Envelope(
        topic=format_dead_topic(dead.job),
        data=data,
        attributes={"stage": dead.stage, "kind": dead.kind},
    )


def decode_dead_letter(data: bytes) -> DeadLetter:
    """Parse and check a dead letter, or raise ``UnreadableMessage``."""
    try:
        return msgspec.json.decode(data, type=DeadLetter)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableMessage(
            f"{data[:80]!r} is not a dead letter of version {VERSION} ({error}); "
            "another program publishes to this topic; stop it"
        ) from error
