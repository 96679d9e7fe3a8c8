"""The graph, ledger and artifacts of the settings are opened together, for one namespace."""

from __future__ import annotations

import pytest

from segue.errors import ConfigurationError
from segue.model.graph import parse_graph
from segue.model.settings import Settings
from segue.stack import open_stack

GRAPH = """
namespace: {namespace}
artifacts: {folder}/artifacts
jobs: {{a: {{run: "m:f", needs: {{m: source}}, writes: application/json}}}}
"""


@pytest.mark.parametrize("create", [True, False])
def test_a_ledger_belongs_to_the_namespace_that_it_was_first_opened_for(tmp_path, create):
    moods, charts = (
        parse_graph(GRAPH.format(namespace=n, folder=tmp_path)) for n in ("moods", "charts")
    )
    settings = Settings.load(ledger=f"sqlite:///{tmp_path}/ledger.db")
    with open_stack(settings, graph=moods):
        pass
    with open_stack(settings, graph=moods, create=create) as stack:
        assert stack.graph is moods
    with (
        pytest.raises(ConfigurationError, match="moods"),
        open_stack(settings, graph=charts, create=create),
    ):
        pass


def test_a_ledger_that_does_not_exist_is_empty_and_is_not_created(tmp_path):
    graph = parse_graph(GRAPH.format(namespace="moods", folder=tmp_path))
    settings = Settings.load(ledger=f"sqlite:///{tmp_path}/ledger.db")
    with open_stack(settings, graph=graph, create=False) as stack:
        assert stack.ledger.count(graph.accepted).files == 0
    assert not (tmp_path / "ledger.db").exists()
