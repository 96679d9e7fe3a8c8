"""Cloud Run tells a function whose token it has checked; elsewhere nobody has."""

from __future__ import annotations

import base64
import json

import pytest
from werkzeug.datastructures import Headers

from segue_functions.caller import MAX_CHARACTERS, find_caller


def build_token(claims: object) -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.SIGNATURE_REMOVED"


ANN = {"email": "ann@example.com", "sub": "117", "aud": "https://segue"}
BOB = {"email": "bob@example.com"}


@pytest.fixture
def in_cloud(monkeypatch):
    monkeypatch.setenv("K_SERVICE", "segue-request")


@pytest.mark.usefixtures("in_cloud")
@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ({"Authorization": f"Bearer {build_token(ANN)}"}, "ann@example.com"),
        ({"authorization": f"bearer {build_token(ANN)}"}, "ann@example.com"),
        ({"Authorization": f"Bearer {build_token({'sub': '117'})}"}, "117"),
        (
            {
                "Authorization": f"Bearer {build_token(BOB)}",
                "X-Serverless-Authorization": f"Bearer {build_token(ANN)}",
            },
            "ann@example.com",
        ),
        ({}, None),
        ({"Authorization": ""}, None),
        ({"Authorization": "Bearer token"}, None),
        ({"Authorization": "Bearer a.b.c"}, None),
        ({"Authorization": "Bearer a.\xe9.c"}, None),
        ({"Authorization": f"Bearer {build_token(b'[' * 5000)}"}, None),
        ({"Authorization": f"Bearer {build_token([])}"}, None),
        ({"Authorization": f"Bearer {build_token({})}"}, None),
        ({"Authorization": f"Bearer {build_token({'email': 7})}"}, None),
        ({"Authorization": f"Bearer {build_token({'email': 'x' * 9999})}"}, "x" * MAX_CHARACTERS),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_caller_is_the_account_of_the_token(headers, caller):
    assert find_caller(Headers(headers)) == caller


def test_a_token_that_nobody_has_checked_says_nothing(monkeypatch):
    monkeypatch.delenv("K_SERVICE", raising=False)
    assert find_caller(Headers({"Authorization": f"Bearer {build_token(ANN)}"})) is None
