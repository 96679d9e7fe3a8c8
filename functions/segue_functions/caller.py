"""Finds out who calls a function, for the records.

Cloud Run lets a call in only with a valid identity token, and passes the token on. So its claims
need no check here, and anywhere else they mean nothing.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from werkzeug.datastructures import Headers

HEADERS = ("X-Serverless-Authorization", "Authorization")  # Cloud Run checks the first that is sent
MAX_CHARACTERS = 256


class TokenClaims(msgspec.Struct):
    """What an identity token says of the caller."""

    email: str | None = None  # of a user or a service account
    sub: str | None = None  # its number


_decode_claims = msgspec.json.Decoder(TokenClaims).decode


def find_caller(headers: Headers) -> str | None:
    """Return the account that sent a request, or None if it is not known."""
    if not os.environ.get("K_SERVICE"):
        return None
    token = next((headers[name] for name in HEADERS if name in headers), "")
    parts = token.removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    try:
        data = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = _decode_claims(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    account = claims.email or claims.sub
    return account[:MAX_CHARACTERS] if account else None
