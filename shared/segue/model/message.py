"""The messages between jobs: versioned JSON, parsed once, at the edge."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from segue.errors import UnreadableMessage

VERSION: Literal[1] = 1
MAX_GENERATION = 2**63 - 1  # what a ledger can store


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Asks one job to process one file.

    ``targets`` never changes on the way: it names the jobs whose results are requested, not the
    next job.
    """

    version: Literal[1] = VERSION
    uri: str
    generation: Annotated[int, msgspec.Meta(ge=0, le=MAX_GENERATION)]
    job: str
    targets: tuple[str, ...] | None = None  # None: top-down, everything below
    force: bool = False  # compute the targets even if their results are current
    ping: bool = False  # walk the graph without doing any work
    # Grows with time, so that a repeated message forces nothing: see build_request_id.
    request: str | None = None
    lane: Literal["live", "requests"] = "live"
    attempt: Annotated[int, msgspec.Meta(ge=1, le=2**31)] = 1


def build_request_id(now: datetime) -> str:
    """Return a unique id for a request; later ids are greater."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"


def encode_message(message: Message) -> bytes:
    """Return a message's bytes, always with the version."""
    return msgspec.json.encode({"version": VERSION, **msgspec.to_builtins(message)})


def decode_message(data: bytes) -> Message:
    """Parse and check a message, or raise ``UnreadableMessage``."""
    try:
        return msgspec.json.decode(data, type=Message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableMessage(
            f"{data[:80]!r} is not a message of version {VERSION} ({error}); "
            "it goes to the dead letters"
        ) from error
