"""The folder to watch, and the programs and their settings."""

from __future__ import annotations

import os

import pytest

from segue.errors import ConfigurationError
from segue.model.graph import parse_graph
from segue.model.settings import Settings
from segue_cli.local.programs import build_commands, export_settings, find_catalogue_folder

GRAPH = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("catalogue: FOLDER/none", "there is no folder"),
        ("catalogue: gs://acme/masters", "Eventarc"),
        ("", "segue up FOLDER"),
    ],
)
def test_a_catalogue_has_to_be_an_existing_folder(tmp_path, line, message):
    graph = parse_graph(line.replace("FOLDER", str(tmp_path)) + GRAPH, environ={})
    with pytest.raises(ConfigurationError, match=message):
        find_catalogue_folder(graph)


def test_one_pipeline_serves_all_jobs_unless_they_are_to_be_separate():
    ((name, command),) = build_commands(["a", "b"], processes=None, separate=False).items()
    assert (name, command[-2:]) == ("stream", ["stream", "--all"])
    separate = build_commands(["a", "b"], processes=3, separate=True)
    assert list(separate) == ["stream a", "stream b"]
    assert separate["stream b"][-3:] == ["--processes=3", "--job", "b"]


def test_settings_are_read_from_the_environment_for_a_while(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    before = dict(os.environ)
    with export_settings(Settings(ledger="sqlite:///l.db", catalogue="/music")):
        found = Settings.load()
        assert (found.ledger, found.catalogue) == ("sqlite:///l.db", "/music")
        assert found.graph == str(tmp_path / "jobs.yaml")
    assert dict(os.environ) == before
