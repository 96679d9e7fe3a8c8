"""Where notifications go: a real server on this machine, and topics; no secret is ever shown."""

from __future__ import annotations

import json

import pytest

from segue.adapters.notification_target import PubsubTopic, parse_target
from segue.errors import ConfigurationError, Unavailable
from segue_support.webhook import serve_hook

SECRETS = ("s3cret", "hunter2", "T0KEN", "ann:", "ann@")


@pytest.fixture
def hook():
    with serve_hook() as made:
        yield made


def test_a_webhook_is_posted_json_with_its_path_and_query(hook):
    target = parse_target(f"http://localhost:{hook.port}/a%20b/T0KEN?key=s3cret#part")
    target.send(json.dumps({"event": "end"}).encode(), {"event": "end"})
    assert hook.posts == [{"event": "end"}]
    assert hook.paths == ["/a%20b/T0KEN?key=s3cret"]
    assert hook.headers[0]["Content-Type"] == "application/json"
    assert "Authorization" not in hook.headers[0]


def test_letters_that_no_url_has_are_quoted(hook):
    parse_target(f"http://localhost:{hook.port}/ü?q=ü&r=%20?").send(b"{}", {})
    assert hook.paths == ["/%C3%BC?q=%C3%BC&r=%20?"]


def test_a_user_and_password_become_basic_authentication(hook):
    parse_target(f"http://ann:hunter2%21@127.0.0.1:{hook.port}").send(b"{}", {})
    assert hook.paths == ["/"]
    assert hook.headers[0]["Authorization"] == "Basic YW5uOmh1bnRlcjIh"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (500, Unavailable),
        (503, Unavailable),
        (429, Unavailable),
        (400, ConfigurationError),
        (404, ConfigurationError),
        (302, ConfigurationError),
        (307, ConfigurationError),
    ],
)
def test_what_a_webhook_refuses_is_an_error_without_its_secrets(hook, status, error):
    hook.statuses = [status]
    target = parse_target(f"http://ann:hunter2@localhost:{hook.port}/T0KEN?key=s3cret")
    with pytest.raises(error) as caught:
        target.send(b"{}", {})
    assert str(caught.value) == f"http://localhost:{hook.port}/… responded {status}"
    assert len(hook.posts) == 1  # no redirect is followed


def test_a_webhook_that_is_not_there_is_unavailable_without_its_secrets():
    with serve_hook() as gone:
        port = gone.port
    target = parse_target(f"http://ann:hunter2@localhost:{port}/T0KEN?key=s3cret")
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        target.send(b"{}", {})
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://hooks.example.com/services/T0KEN?s3cret", "https://hooks.example.com/…"),
        ("https://ann:hunter2@example.com:8443/x", "https://example.com:8443/…"),
        ("HTTPS://Example.com", "https://example.com/…"),
        ("http://[::1]:8080/x", "http://[::1]:8080/…"),
        ("http://127.9.9.9/", "http://127.9.9.9/…"),
        ("pubsub://projects/acme-segue/topics/runs", "pubsub://projects/acme-segue/topics/runs"),
    ],
)
def test_only_the_host_of_a_target_is_shown(url, name):
    assert parse_target(url).name == name


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com/T0KEN",
        "ftp://ann:hunter2@example.com/T0KEN",
        "https:///T0KEN",
        "https://example.com:port/T0KEN",
        "https://exa mple.com/T0KEN",
        "https://example.com/T0KEN\r\nX: s3cret",
        "https://[::1/T0KEN",
        "https://s3cret:12#hunter2@example.com/",
        "https://s3cret:12/hunter2@example.com/",
        "https://ann@s3cret:12?hunter2@example.com/",
        "http://s3cret:12#hunter2@localhost/",
        "http://example.com/T0KEN?s3cret",
        "http://10.0.0.1/T0KEN",
        "http://localhost.example.com/T0KEN",
        "http://169.254.169.254/T0KEN",
        "pubsub://acme-segue/runs",
        "pubsub://projects/acme-segue/topics/",
        "pubsub://projects/acme-segue/subscriptions/runs",
    ],
)
def test_what_is_no_target_is_refused_without_its_secrets(url):
    with pytest.raises(ConfigurationError, match="write https://") as caught:
        parse_target(url)
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_a_topic_is_parsed():
    assert isinstance(parse_target("pubsub://projects/acme-segue/topics/runs"), PubsubTopic)
