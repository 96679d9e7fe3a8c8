"""Whom the server of all functions lets in, and how it answers what others can repair."""

from __future__ import annotations

import sys

import functions_framework
import pytest
from werkzeug.test import Client

from segue.errors import ConfigurationError, DamagedRecord, Unavailable
from segue.model.media_file import MediaFile
from segue_functions import server
from segue_support.cloud_events import build_object_event, to_structured

TOKEN = "a-token"


@pytest.fixture
def client(memory, monkeypatch):
    """Post to a server at 127.0.0.1 that asks for a token."""
    monkeypatch.setenv("FUNCTION_TARGET", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(functions_framework, "errorhandler", functions_framework.errorhandler)
    client = Client(server.build_app("127.0.0.1", TOKEN))

    def post(path: str = "/request", data: bytes = b"{}", **headers: str) -> int:
        given = {"Host": "127.0.0.1:8080", "Authorization": f"Bearer {TOKEN}", **headers}
        return client.post(path, data=data, headers=given).status_code

    yield post
    for name in server.FUNCTIONS:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),  # let in, and the request is none
        ({"Authorization": f"bearer {TOKEN}"}, 400),
        ({"Authorization": ""}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": "Bearer \xe9"}, 401),
        ({"Origin": "http://127.0.0.1:8080"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost"}, 400),
        ({"Host": "[::1]:8080"}, 400),
        ({"Host": "192.168.1.7:8080"}, 400),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8080"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "127.0.0.1:8080, evil.example"}, 403),  # how servers join two of them
        ({"Host": "[::1]evil.example"}, 403),
        ({"Host": ""}, 403),
    ],
    ids=str,
)
def test_who_is_let_in(client, headers, status):
    assert client(**headers) == status


@pytest.mark.parametrize("path", ["/arrival", "/deletion", "/sweep", "/request", "/healthz", "/x"])
def test_nothing_is_reached_without_the_token(client, path):
    assert client(path, Authorization="") == 401


def test_a_server_may_be_called_by_the_name_that_it_listens_on():
    assert server._is_own_host("studio:8080", "studio")
    assert not server._is_own_host("studio:8080", "127.0.0.1")


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (Unavailable("away"), "unavailable"),
        (ConfigurationError("wrong"), "misconfigured"),
        (DamagedRecord("the record cannot be read"), "damaged"),
    ],
)
def test_an_event_is_asked_for_again_once_the_cause_is_repaired(
    client, memory, logged, monkeypatch, error, action
):
    def fail(_changes):
        raise error

    monkeypatch.setattr(memory.ledger, "change", fail)
    media = MediaFile(uri="gs://music/a.wav", version="5", order=5)
    headers, body = to_structured(build_object_event("finalized", media))
    assert client("/arrival", body, **headers) == 503
    assert [(line["action"], line["file"]) for line in logged] == [(action, media.uri)]
