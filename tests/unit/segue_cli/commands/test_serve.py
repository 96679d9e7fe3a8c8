"""What ``segue serve`` refuses; that it serves is tested with real processes."""

from __future__ import annotations

import importlib.util
import socket

import pytest

from segue.log import LOGGER
from segue_functions import server


@pytest.fixture(autouse=True)
def _log(monkeypatch):
    monkeypatch.setattr(LOGGER, "handlers", [])
    monkeypatch.setattr(LOGGER, "propagate", LOGGER.propagate)


@pytest.fixture
def served(monkeypatch):
    """The addresses that would be served."""
    found = []
    monkeypatch.setattr(server, "serve", lambda host, port, **_: found.append((host, port)))
    return found


def test_it_listens_on_the_loopback_address_unless_told_otherwise(segue, served):
    said = segue("serve")
    assert (said.code, said.err) == (0, "")
    assert served == [("127.0.0.1", 8080)]


@pytest.mark.parametrize(
    ("host", "warns"),
    [("0.0.0.0", True), ("myhost", True), ("localhost", False), ("::1", False)],
)
def test_it_warns_if_others_can_reach_it(segue, served, host, warns):
    said = segue("serve", "--host", host, "--port", "9000")
    assert served == [(host, 9000)]
    assert ("sent unencrypted" in said.err) == warns


def test_each_start_has_a_new_token_in_a_file_that_only_its_owner_can_read(
    segue, project, monkeypatch
):
    seen = []

    def serve(_host, _port, *, token, on_start):
        on_start("127.0.0.1", 8123)
        file = project.folder / ".segue/serve-8123.header"
        seen.append((token, file.read_text(), file.stat().st_mode & 0o777))

    monkeypatch.setattr(server, "serve", serve)
    (project.folder / ".segue").mkdir(exist_ok=True)
    left = project.folder / ".segue/serve-8123.header"
    left.write_text("of a server that was killed")
    left.chmod(0o644)
    for _ in range(2):
        assert segue("serve", "--port", "8123").code == 0
    assert not left.exists()
    (one, text, mode), (two, _, _) = seen
    assert (text, mode) == (f"Authorization: Bearer {one}\n", 0o600)
    assert one != two
    assert len(one) >= 32


def test_a_folder_in_which_the_token_cannot_be_written_is_refused(segue, project, monkeypatch):
    monkeypatch.setattr(server, "serve", lambda *_, on_start, **__: on_start("127.0.0.1", 8123))
    (project.folder / ".segue").write_text("a file")
    said = segue("serve", "--port", "8123")
    assert said.code == 2
    assert "start the server in another folder" in said.err


@pytest.mark.parametrize("host", ["x" * 64, "caf\udce9"])
def test_what_is_no_address_is_refused(segue, host):
    said = segue("serve", "--host", host, "--port", "0")
    assert said.code == 2
    assert "cannot listen on" in said.err


def test_a_port_that_is_taken_is_refused(segue):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = segue("serve", "--port", str(port))
    assert said.code == 2
    assert said.err == (
        f"segue: error: cannot listen on 127.0.0.1, port {port} (Address already in use); choose "
        "another address\n"
    )


def test_a_wrong_set_up_is_refused(segue, project):
    project.change_graph("jobs: {}")
    assert segue("serve", "--port", "0").code == 2
    assert segue("serve", "--queue", "nowhere://").code == 2


def test_without_its_extra_it_says_how_to_install_it(segue, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "waitress" else find(name)
    )
    said = segue("serve")
    assert said.code == 2
    assert "segue-features[functions]" in said.err
