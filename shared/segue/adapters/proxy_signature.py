"""Verifies the signature of Google's Identity-Aware Proxy on a request.

https://cloud.google.com/iap/docs/signed-headers-howto
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

KEYS = "https://www.gstatic.com/iap/verify/public_key"
KEPT_S = 3600.0  # keys; a signature with a new one makes them be read again, at most once a minute
RETRY_S = 60.0
FIRST_RETRY_S = 5.0  # while there are no keys at all
READ_S = 10  # for which a server may keep silent
SKEW_S = 30  # by which two clocks may differ, as the page above has it


class ProxySignature:
    """Verifies signatures with the proxy's public keys, which are read when they are needed.

    Parameters
    ----------
    keys : str
        Where the public keys are: a JSON object of them in PEM, by their ids.
    """

    def __init__(self, keys: str = KEYS) -> None:
        self._address = keys
        self._keys: Mapping[str, str] = {}
        self._problem = "they were not read yet"
        self._read_at = self._tried_at = float("-inf")
        self._lock = threading.Lock()

    def verify(self, token: str, audience: str) -> Mapping[str, Any]:
        """Return the claims of a token.

        Raises
        ------
        ValueError
            If it is not signed by the proxy for this audience, or has expired.
        """
        from google.auth import exceptions, jwt

        try:
            header = jwt.decode_header(token)  # type: ignore[no-untyped-call]
            keys = self._find_keys(str(header.get("kid")))
            claims: Mapping[str, Any] = jwt.decode(  # type: ignore[no-untyped-call]
                token, certs=keys, audience=audience, clock_skew_in_seconds=SKEW_S
            )
        except (exceptions.GoogleAuthError, TypeError) as error:  # the latter for odd claims
            raise ValueError(str(error)) from error
        return claims

    def _find_keys(self, wanted: str) -> Mapping[str, str]:
        """Return the keys; the old ones while the new ones cannot be read."""
        with self._lock:
            now = time.monotonic()
            is_old = now - self._read_at > KEPT_S or wanted not in self._keys
            if is_old and now - self._tried_at > (RETRY_S if self._keys else FIRST_RETRY_S):
                self._tried_at = now
                try:
                    self._keys, self._read_at = _read_keys(self._address), now
                except ValueError as error:
                    self._problem = str(error)
            if not self._keys:
                raise ValueError(f"the proxy's keys are missing: {self._problem}")
            return self._keys


def _read_keys(address: str) -> Mapping[str, str]:
    import requests

    try:
        answer = requests.get(address, timeout=READ_S)
        answer.raise_for_status()
        keys = answer.json()
    except requests.RequestException as error:
        raise ValueError(str(error)) from error
    if not isinstance(keys, Mapping):
        raise ValueError(f"{address} has no object of keys")  # noqa: TRY004 - its value is wrong
    return keys
