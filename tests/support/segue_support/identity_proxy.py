"""A stand-in for Identity-Aware Proxy: signs as it does, and serves its keys at their address.

The keys are read over HTTPS. A process is led to the stand-in as by the proxy of a company: by its
environment, with a certificate of its own. What the process runs and reads is as in the cloud.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

AUDIENCE = "/projects/1/locations/europe-west1/services/segue-console"
HEADER = "X-Goog-IAP-JWT-Assertion"


def encode(data: bytes) -> str:
    """Return base64 as tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class IdentityProxy:
    """Signs as the proxy does: ES256."""

    def __init__(self, name: str = "k1") -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public(self) -> str:
        """The public key in PEM."""
        found = self.key.public_key()
        return found.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, **claims: Any) -> str:
        """Return a token for this audience, with other claims instead of the usual ones."""
        now = int(time.time())
        payload = {
            "iss": "https://cloud.google.com/iap",
            "aud": AUDIENCE,
            "email": "a@example.com",
            "iat": now - 10,
            "exp": now + 600,
            **claims,
        }
        header = {"alg": "ES256", "typ": "JWT", "kid": self.name}
        text = ".".join(encode(json.dumps(part).encode()) for part in (header, payload))
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(SHA256())))
        return f"{text}.{encode(r.to_bytes(32) + s.to_bytes(32))}"


@contextlib.contextmanager
def serve_https(host: str, pages: Mapping[str, bytes], folder: Path) -> Iterator[dict[str, str]]:
    """Serve pages as a host of the internet; yields the environment that leads a process there."""
    certificate = folder / "certificate.pem"
    certificate.write_bytes(_make_certificate(host))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Tunnel(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            if self.path != f"{host}:443":
                self.send_error(403)
                return
            self.send_response(200)
            self.end_headers()
            with context.wrap_socket(self.connection, server_side=True) as inner:
                wanted = inner.makefile("rb").readline().split()[1].decode()
                body = pages.get(wanted)
                status = "200 OK" if body is not None else "404 Not Found"
                head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body or b'')}\r\n"
                inner.sendall(f"{head}Connection: close\r\n\r\n".encode() + (body or b""))
            self.close_connection = True

        def log_message(self, *_args: object) -> None:
            """Keep the tests' output short."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Tunnel) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        # Not in small letters, which gRPC reads.
        yield {
            "HTTPS_PROXY": f"http://127.0.0.1:{listener.server_port}",
            "NO_PROXY": "127.0.0.1",
            "REQUESTS_CA_BUNDLE": str(certificate),
        }
        listener.shutdown()
        thread.join()


def _make_certificate(host: str) -> bytes:
    """Return a certificate that is its own authority, with its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True
        )
        .add_extension(identifier, critical=False)
        .sign(key, SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM) + secret
