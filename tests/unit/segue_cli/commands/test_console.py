"""What ``segue console`` refuses; that it serves is tested with real processes."""

from __future__ import annotations

import socket

import pytest

from segue_cli.exit_code import ExitCode

OTHER = """
namespace: other
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


def test_a_port_that_is_taken_is_an_error_with_a_remedy(segue, project):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        said = segue("console", "--no-browser", "--port", str(port))
    assert said.code == ExitCode.USAGE
    assert f"port {port} of 127.0.0.1 cannot be used" in said.err
    assert "name another with --port, or 0 for a free one" in said.err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_is_a_number_of_a_port(segue, project, port):
    said = segue("console", "--no-browser", "--port", port)
    assert said.code == ExitCode.USAGE
    assert "--port" in said.err


def test_a_graph_that_is_wrong_or_missing_is_an_error(segue, project):
    (project.folder / "wrong.yaml").write_text("jobs: [1]")
    for graph in ("wrong.yaml", "missing.yaml"):
        said = segue("console", "--no-browser", graph)
        assert said.code == ExitCode.USAGE
        assert graph in said.err


def test_two_graphs_of_one_namespace_are_an_error(segue, project):
    for name in ("one.yaml", "two.yaml"):
        (project.folder / name).write_text(OTHER)
    said = segue("console", "--no-browser", "one.yaml", "two.yaml")
    assert said.code == ExitCode.USAGE
    assert "one.yaml and " in said.err
    assert "both of the namespace 'other'" in said.err


def test_several_graphs_cannot_share_a_ledger(segue, project):
    (project.folder / "other.yaml").write_text(OTHER)
    ledger = "sqlite:///ledger.db"
    said = segue("console", "--no-browser", "jobs.yaml", "other.yaml", "--ledger", ledger)
    assert said.code == ExitCode.USAGE
    assert "each namespace has its own" in said.err


def test_two_folders_are_an_error(segue, project):
    said = segue("console", "--no-browser", "music", "more")
    assert said.code == ExitCode.USAGE
    assert "name one folder" in said.err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--ledger", "redis://host"), "redis://host"),
        (("--ledger", "firestore://"), "is not a Firestore ledger"),
        (("Musc",), "there is no folder 'Musc' with media"),
        (("--catalogue", "Musc"), "there is no folder 'Musc' with media"),
    ],
)
def test_a_setting_that_makes_no_sense_is_an_error_before_a_page_is_opened(
    segue, project, arguments, error
):
    said = segue("console", "--no-browser", "--port", "0", *arguments)
    assert said.code == ExitCode.USAGE
    assert error in said.err
