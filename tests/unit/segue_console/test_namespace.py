"""The graphs of a console are opened by their namespaces."""

from __future__ import annotations

import pytest

from segue.adapters.connect import connect_ledger
from segue.errors import ConfigurationError, DatabaseReplaced
from segue.model.settings import Settings
from segue_console.namespace import Namespace, open_namespaces


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


def test_a_ledger_that_was_replaced_is_opened_anew(writer, namespace):
    writer.write("a.wav", beats={})
    uris = [writer.uri("a.wav")]
    assert namespace.stack.ledger.read(uris)[0].record is not None
    path = writer.folder / "ledger.db"
    path.rename(writer.folder / "old.db")
    for end in ("-wal", "-shm"):
        (writer.folder / f"ledger.db{end}").unlink(missing_ok=True)
    with pytest.raises(DatabaseReplaced):
        namespace.stack.ledger.read(uris)
    connect_ledger(writer.url).close()
    assert namespace.stack.ledger.read(uris)[0].record is None


def test_a_ledger_that_does_not_exist_yet_is_empty_until_it_does(tmp_path, writer):
    url = f"sqlite:///{tmp_path}/later.db"
    settings = Settings(graph=str(writer.folder / "jobs.yaml"), ledger=url)
    found = Namespace(settings)
    empty = found.stack
    assert found.stack is empty
    assert not (tmp_path / "later.db").exists()
    connect_ledger(url).close()
    assert found.stack is not empty
    found.close()
