"""Behind Identity-Aware Proxy, its signature alone says who the reader is."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from segue_console.app import build_app
from segue_console.plans import Plans
from segue_console.security import PROXY_ISSUER, ProxyAccess
from segue_console.waveforms import Waveforms

AUDIENCE = "/projects/1/locations/europe-west1/services/segue-console"
CLAIMS = {
    "good": {"iss": PROXY_ISSUER, "email": "a@example.com"},
    "other issuer": {"iss": "https://accounts.google.com", "email": "a@example.com"},
    "nobody": {"iss": PROXY_ISSUER},
}


def verify(token: str, audience: str):
    assert audience == AUDIENCE
    if token not in CLAIMS:
        raise ValueError("no such signature")
    return CLAIMS[token]


@pytest.fixture
def client(writer, namespace):
    waveforms, plans = Waveforms(str(writer.folder / "waveforms")), Plans()
    app = build_app(
        {namespace.name: namespace},
        waveforms=waveforms,
        plans=plans,
        access=ProxyAccess(AUDIENCE, verify),
        hosts=None,
    )
    with TestClient(app, base_url="https://segue-console-1.run.app") as found:
        yield found
    namespace.live.stop()
    waveforms.close()
    plans.close()


def test_whom_the_proxy_let_in_reads(client):
    found = client.get("/default/", headers={"X-Goog-IAP-JWT-Assertion": "good"})
    assert found.status_code == 200
    assert "read-only" in found.text


@pytest.mark.parametrize("token", ["", "bad", "other issuer", "nobody"])
def test_nobody_else_does(client, token):
    assert client.get("/default/").status_code == 403
    found = client.get("/default/?token=bad", headers={"X-Goog-IAP-JWT-Assertion": token})
    assert found.status_code == 403


def test_an_address_in_a_header_proves_nothing(client):
    headers = {"X-Goog-Authenticated-User-Email": "accounts.google.com:a@example.com"}
    assert client.get("/default/", headers=headers).status_code == 403


def test_nothing_can_be_changed(client):
    headers = {
        "X-Goog-IAP-JWT-Assertion": "good",
        "Origin": "https://segue-console-1.run.app",
    }
    assert client.post("/default/request", data={}, headers=headers).status_code == 405
