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
        self._read_at: float | None = None
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
                token, certs=keys, audience=audience
            )
        except exceptions.GoogleAuthError as error:
            raise ValueError(str(error)) from error
        return claims

    def _find_keys(self, wanted: str) -> Mapping[str, str]:
        with self._lock:
            age_s = float("inf") if self._read_at is None else time.monotonic() - self._read_at
            if age_s > KEPT_S or (wanted not in self._keys and age_s > RETRY_S):
                self._keys, self._read_at = _read_keys(self._address), time.monotonic()
            return self._keys


def _read_keys(address: str) -> Mapping[str, str]:
    import requests

    try:
        answer = requests.get(address, timeout=10)
        answer.raise_for_status()
        keys: Mapping[str, str] = answer.json()
    except requests.RequestException as error:
        raise ValueError(f"the proxy's keys cannot be read ({error})") from error
    return keys
