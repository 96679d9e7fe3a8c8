"""The graphs of a console are opened by their namespaces."""

from __future__ import annotations

import pytest

from segue.errors import ConfigurationError
from segue.model.settings import Settings
from segue_console.namespace import open_namespaces


def test_two_graphs_of_one_namespace_are_refused(writer):
    paths = [writer.folder / name for name in ("one.yaml", "two.yaml")]
    for path in paths:
        path.write_text((writer.folder / "jobs.yaml").read_text())
    given = [Settings(graph=str(path), ledger=writer.url) for path in paths]
    found = open_namespaces(given)
    with pytest.raises(ConfigurationError, match=r"one\.yaml and .*two\.yaml have the namespace"):
        found.__enter__()


def test_a_graph_that_changes_often_keeps_its_ledger(writer, namespace):
    path, before = writer.folder / "jobs.yaml", namespace.stack
    text = path.read_text()
    path.write_text(text.replace("  absent:", "  new_one:"))
    namespace.refresh()
    assert "new_one" in namespace.stack.graph.jobs
    assert namespace.stack.ledger is before.ledger
    path.write_text(text.replace("artifacts: artifacts", "artifacts: others"))
    namespace.refresh()
    assert namespace.stack.artifacts.location.endswith("/others")
