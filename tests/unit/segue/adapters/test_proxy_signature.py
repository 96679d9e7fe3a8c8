"""Signatures of Identity-Aware Proxy, with keys of this test's own."""

from __future__ import annotations

import hmac
import json
import time

import pytest

from segue.adapters import proxy_signature as module
from segue.adapters.proxy_signature import ProxySignature
from segue_support.identity_proxy import AUDIENCE, IdentityProxy, encode
from segue_support.web_server import Page, serve_pages


@pytest.fixture
def proxy() -> IdentityProxy:
    return IdentityProxy()


@pytest.fixture
def signature(proxy):
    with serve_pages({"/keys": json.dumps({"k1": proxy.public}).encode()}) as server:
        yield ProxySignature(f"{server.url}/keys")


def test_what_the_proxy_signed_is_read(signature, proxy):
    assert signature.verify(proxy.sign(), AUDIENCE)["email"] == "a@example.com"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "/projects/1/locations/europe-west1/services/other"},
        {"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200},
        {"iat": int(time.time()) + 3600},
        {"iat": None},
        {"exp": "tomorrow"},
    ],
)
def test_another_audience_or_time_is_refused(signature, proxy, claims):
    with pytest.raises(ValueError, match=r"\w"):
        signature.verify(proxy.sign(**claims), AUDIENCE)


def test_a_clock_may_be_a_few_seconds_off(signature, proxy):
    now = int(time.time())
    assert signature.verify(proxy.sign(iat=now + 10), AUDIENCE)
    assert signature.verify(proxy.sign(exp=now - 10), AUDIENCE)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES384", ["ES256"], {}, None])
def test_another_algorithm_is_refused(signature, proxy, algorithm):
    payload = proxy.sign().split(".")[1]
    header = encode(json.dumps({"alg": algorithm, "kid": "k1"}).encode())
    digest = hmac.digest(proxy.public.encode(), f"{header}.{payload}".encode(), "sha256")
    for signed in (digest, bytes(64), bytes(96), bytes(256)):
        with pytest.raises(ValueError, match=r"\w"):
            signature.verify(f"{header}.{payload}.{encode(signed)}", AUDIENCE)


def test_another_key_is_refused(signature):
    with pytest.raises(ValueError, match=r"\w"):
        signature.verify(IdentityProxy().sign(), AUDIENCE)
    with pytest.raises(ValueError, match=r"\w"):
        signature.verify(IdentityProxy("k2").sign(), AUDIENCE)


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "a.b", "..", "é.é.é"])
def test_what_is_no_token_is_refused(signature, token):
    with pytest.raises(ValueError, match=r"\w"):
        signature.verify(token, AUDIENCE)


def test_a_token_that_names_no_algorithm_is_refused(signature, proxy):
    head, payload, _ = proxy.sign().split(".")
    none = encode(b'{"alg": "none", "kid": "k1"}')
    for token in (f"{none}.{payload}.", f"{head}.{payload}."):
        with pytest.raises(ValueError, match=r"\w"):
            signature.verify(token, AUDIENCE)


def test_keys_that_cannot_be_read_let_nobody_in(proxy):
    with serve_pages({}) as server, pytest.raises(ValueError, match="keys are missing: 404"):
        ProxySignature(f"{server.url}/keys").verify(proxy.sign(), AUDIENCE)


@pytest.mark.parametrize("keys", [b"", b"<html>", b"[]", b'"k1"', b"null"])
def test_keys_that_are_none_let_nobody_in(proxy, keys):
    pages = {"/keys": keys}
    with serve_pages(pages) as server, pytest.raises(ValueError, match="keys are missing"):
        ProxySignature(f"{server.url}/keys").verify(proxy.sign(), AUDIENCE)


def test_while_new_keys_cannot_be_read_the_old_ones_hold(proxy, monkeypatch):
    pages = {"/keys": json.dumps({"k1": proxy.public}).encode()}
    with serve_pages(pages) as server:
        signature = ProxySignature(f"{server.url}/keys")
        assert signature.verify(proxy.sign(), AUDIENCE)
        for name in ("KEPT_S", "RETRY_S"):
            monkeypatch.setattr(module, name, -1.0)
        asked = len(server.requests)
        server.pages["/keys"] = Page(body=b"<html>")
        assert signature.verify(proxy.sign(), AUDIENCE)
        assert len(server.requests) > asked


def test_a_server_that_is_away_is_not_asked_by_each_request(proxy):
    with serve_pages({}) as server:
        signature = ProxySignature(f"{server.url}/keys")
        for _ in range(5):
            with pytest.raises(ValueError, match="keys are missing"):
                signature.verify(proxy.sign(), AUDIENCE)
        assert len(server.requests) == 1
