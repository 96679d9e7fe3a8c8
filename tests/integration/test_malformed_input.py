"""Malformed events, requests and messages end in an answer that nobody repeats; the short form."""

from __future__ import annotations

import pytest

from segue_functions import transport
from segue_support.malformed_events import check_events, check_messages, check_requests

SEEDS = range(1000)


@pytest.mark.parametrize("check", [check_events, check_requests, check_messages])
def test_no_malformed_input_ends_in_a_traceback_or_a_server_error(check):
    figures = check(SEEDS)
    assert figures.examples == []
    assert figures.count == len(SEEDS)
    assert len(figures.answers) > 2


def test_a_server_error_would_be_found(monkeypatch):
    monkeypatch.setattr(transport, "parse_event", lambda headers, body: transport._keep(body["x"]))
    figures = check_events(range(20), over_sockets=False)
    assert figures.violations > 0
    assert figures.answers["500"] > 0
