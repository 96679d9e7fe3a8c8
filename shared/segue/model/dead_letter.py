"""Dead letters: what a job could not work on, with the reason, kept until somebody looks at it."""

from __future__ import annotations

import base64
from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec

from segue.errors import UnreadableMessage
from segue.model.queue import Letter, dead_topic

VERSION: Literal[1] = 1
MAX_TEXT = 2000  # of an error
MAX_PAYLOAD_BYTES = 256 * 1024  # a message is a few hundred


class Stage(StrEnum):
    """Where it went wrong."""

    DECODE = "decode"  # the bytes are no message
    ROUTE = "route"  # a message for a job that is not served here
    RUN = "run"  # the job failed on the file


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message that led to nothing."""

    version: Literal[1] = VERSION
    stage: Stage
    job: str  # on whose topic it came
    kind: str  # one of segue.errors.Kind
    type: str  # the exception's class
    error: str
    payload: str  # base64 of the message's bytes
    uri: str | None = None
    generation: int | None = None
    at: datetime

    @property
    def data(self) -> bytes:
        """The message's bytes, as they came."""
        return base64.b64decode(self.payload)


def dead_letter(
    *,
    stage: Stage,
    job: str,
    kind: str,
    type: str,  # noqa: A002 - the ledger's own word
    error: str,
    data: bytes,
    uri: str | None = None,
    generation: int | None = None,
    at: datetime,
) -> DeadLetter:
    """Write down what could not be worked on; error and payload are cut to a bounded size."""
    return DeadLetter(
        stage=stage,
        job=job,
        kind=kind,
        type=type,
        error=error[:MAX_TEXT],
        payload=base64.b64encode(data[:MAX_PAYLOAD_BYTES]).decode(),
        uri=uri,
        generation=generation,
        at=at,
    )


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(DeadLetter)


def letter(dead: DeadLetter) -> Letter:
    """Put a dead letter on its way to its job's dead-letter topic."""
    data = _encoder.encode({"version": VERSION, **msgspec.to_builtins(dead)})
    return Letter(
        topic=dead_topic(dead.job), data=data, attributes={"stage": dead.stage, "kind": dead.kind}
    )


def decode(data: bytes) -> DeadLetter:
    """Parse and check a dead letter, or raise ``UnreadableMessage``."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableMessage(
            f"{data[:80]!r} is not a dead letter of version {VERSION} ({error}); "
            "somebody else publishes to this topic"
        ) from error
