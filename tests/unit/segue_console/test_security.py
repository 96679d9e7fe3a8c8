"""Who is let in, what may be changed, and what the pages may do."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from segue_support.results import ResultWriter

HOST, TOKEN = "127.0.0.1:8765", "secret"
PAGES = ("/default/", "/default/files", "/default/runs", "/default/failures", "/default/plan")


def test_the_address_with_the_token_lets_a_browser_in_and_loses_it(console):
    console.client.cookies.clear()
    assert console.get("/default/").status_code == 403
    found = console.client.get(f"/default/files?token={TOKEN}&prefix=a", follow_redirects=False)
    assert (found.status_code, found.headers["location"]) == (303, "/default/files?prefix=a")
    cookie = found.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert TOKEN not in cookie
    assert console.get("/default/").status_code == 200


def test_a_token_that_the_browser_is_started_with_is_used_once(console):
    console.client.cookies.clear()
    token = console.access.create_single_use()
    assert console.client.get("/", params={"token": token}).status_code == 200
    console.client.cookies.clear()
    assert console.client.get("/", params={"token": token}).status_code == 403


@pytest.mark.parametrize("path", ["//evil.example/", "///evil.example", "/%2Fevil.example/"])
def test_the_token_leads_to_no_other_host(console, path):
    found = console.client.get(f"http://{HOST}{path}?token={TOKEN}", follow_redirects=False)
    assert found.headers["location"].rstrip("/") == "/evil.example"


@pytest.mark.parametrize("path", [*PAGES, "/", "/_static/page.js", "/default/live", "/none"])
def test_nothing_is_shown_without_it(console, path):
    console.client.cookies.clear()
    found = console.get(path)
    assert found.status_code == 403
    assert "Open the console with the address that it printed" in found.text


@pytest.mark.parametrize("token", ["", "Secret", "secret2", "é"])
def test_another_token_is_refused(console, token):
    console.client.cookies.clear()
    assert console.client.get("/", params={"token": token}).status_code == 403


@pytest.mark.parametrize("host", ["evil.example:8765", "127.0.0.1", "127.0.0.1:80", ""])
def test_a_name_that_only_leads_here_is_refused(console, host):
    assert console.client.get("/default/", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
        ("cross-site", "navigate", 200),
        ("same-site", "navigate", 200),
        ("cross-site", "no-cors", 403),
        ("same-site", "no-cors", 403),
        ("same-site", "cors", 403),
    ],
)
def test_the_page_of_another_site_starts_nothing(console, site, mode, status):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    assert console.client.get("/default/plan", headers=headers).status_code == status


@pytest.mark.parametrize("path", PAGES)
def test_a_page_may_run_and_load_only_what_is_its_own(console, path):
    headers = console.get(path).headers
    policy = headers["content-security-policy"]
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    assert parts["default-src"] == "'none'"
    assert re.fullmatch(r"'self' 'nonce-[\w-]{20,}'", parts["script-src"])
    assert parts["frame-ancestors"] == "'none'"
    for word in ("unsafe", "http:", "https:", "*", "data:", "blob:"):
        assert word not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/none/", "/_static/none", "/_static/page.js", "/default"])
def test_every_answer_has_a_policy(console, path):
    found = console.client.get(path, follow_redirects=False)
    assert found.headers["content-security-policy"].startswith("default-src 'none'; ")


def test_each_answer_has_a_nonce_of_its_own(console):
    assert len({console.get("/default/").headers["content-security-policy"] for _ in "abc"}) == 3


CHANGES = (
    "/default/request",
    "/default/failures/retry",
    "/default/failures/dead-letters",
    "/default/runs/20260102T030405.000000Z-0a1b2c3d/cancel",
)


@pytest.mark.parametrize("path", CHANGES)
def test_a_console_that_only_reads_changes_nothing(console, path):
    origin = {"Origin": f"http://{HOST}"}
    found = console.client.post(path, data={}, headers=origin)
    assert found.status_code == 405
    assert "--allow-changes" in found.text


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", f"http://{HOST}.evil"])
def test_a_form_of_another_site_is_refused(writable, path, origin):
    csrf = writable.find_csrf("/default/files")
    headers = {} if origin is None else {"Origin": origin}
    found = writable.client.post(path, data={"csrf": csrf}, headers=headers)
    assert found.status_code == 403


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("csrf", ["", "0" * 64, "é"])
def test_a_form_without_the_secret_of_the_page_is_refused(writable, path, csrf):
    origin = {"Origin": f"http://{HOST}"}
    found = writable.client.post(path, data={"csrf": csrf}, headers=origin)
    assert found.status_code == 403


def test_a_form_that_is_too_large_is_refused(writable):
    found = writable.post("/default/request", "/default/files", uri="x" * (2 << 20))
    assert found.status_code == 413


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(writable, method):
    assert writable.client.request(method, "/default/").status_code in (403, 405)


def test_the_headers_of_the_counts_alone_end(console):
    assert console.client.head("/default/live").status_code == 200


PARAMETERS = {
    "/default/files": ("prefix", "job", "state", "error", "after"),
    "/default/file": ("uri",),
    "/default/file/tracks": ("uri",),
    "/default/file/waveform": ("uri",),
    "/default/file/value": ("fingerprint", "suffix"),
    "/default/file/comparison": ("old", "new", "suffix"),
    "/default/media": ("uri",),
    "/default/artifact": ("fingerprint", "suffix"),
    "/default/runs": ("limit",),
    "/default/plan": ("job", "prefix"),
}
ODD = (
    *("", "0", "-1", "1e9", "9" * 5000, "\u0663", "\0", "a\0b", "\r\nX: y", "\u202e", "\U0010ffff"),
    *(
        "..",
        "../../etc/passwd",
        "/",
        "//",
        "file://",
        "file:///",
        "gs://",
        "gs:///x",
        "://",
        "x://y",
    ),
    *("~root", "*", "%", "%00", "%ff", "'\"<script>", "{{ 7 * 7 }}", "nan", "a" * 3000, "json"),
)


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, names in PARAMETERS.items() for name in names]
)
def test_no_parameter_breaks_a_page(console, writer: ResultWriter, path, name):
    (writer.folder / "music" / "a.wav").write_bytes(b"sound")
    writer.write("a.wav", beats={"tempo_bpm": 1.0})
    made = writer.graph.fingerprints["beats"]
    usual = {"uri": writer.uri("a.wav"), "suffix": "json", **dict.fromkeys(("old", "new"), made)}
    for value in ODD:
        for headers in ({}, {"HX-Request": "true"}):
            given = {**usual, "fingerprint": made, name: value}
            found = console.client.get(path, params=given, headers=headers)
            assert found.status_code < 500, value
            assert "content-security-policy" in found.headers
    raw = console.client.get(f"{path}?{name}=%ff%fe%00&{name}&&=;")
    assert raw.status_code < 500


HOSTILE = (
    "<script>alert(1)</script>.wav",
    '"><img src=x onerror=alert(1)>.wav',
    "'};alert(1).wav",
    "{{ 7 * 7 }}.wav",
    "a\u202eb.wav",
    "a\nb\x1b[31m.wav",
    "javascript:alert(1).wav",
    "\N{CJK UNIFIED IDEOGRAPH-96E8}?&#%+ .wav",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_and_does_nothing(console, writer: ResultWriter, name):
    writer.write(name, beats={"tempo_bpm": 1.0, "labels": {name: 1.0}})
    uri = writer.uri(name)
    pages = [
        console.get("/default/files"),
        console.get("/default/files", prefix=name, error=name),
        console.get("/default/file", uri=uri),
        console.get("/default/jobs/beats/sample"),
        console.get("/default/plan", prefix=name),
        console.get("/default/file", uri=f"{uri}/none"),
        console.get(f"/{quote(name, safe='')}/"),
    ]
    for page in pages:
        assert page.headers["content-type"].startswith("text/html")
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "\u202e" not in page.text
        assert "\x1b" not in page.text
        assert "49.wav" not in page.text
    assert pages[2].status_code == 200
    assert pages[5].status_code == 404
