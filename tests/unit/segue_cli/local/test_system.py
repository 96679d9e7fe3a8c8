"""The system's parts share one process: none stops another."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from segue.log import LOGGER
from segue.model.settings import Settings
from segue_cli.local import system as system_module
from segue_cli.local.system import System
from segue_functions import stack

PATIENCE_S = 20.0
GRAPH = """
artifacts: artifacts
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


@pytest.fixture
def system(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("handlers", "propagate"):
        monkeypatch.setattr(LOGGER, name, getattr(LOGGER, name))
    monkeypatch.delenv("SEGUE_GRAPH", raising=False)
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    (tmp_path / "music").mkdir()
    settings = Settings(catalogue="music")
    made = System(settings, processes=1, on_line=lambda _: None)
    level = LOGGER.level
    made._open()
    yield made
    made.close()
    LOGGER.setLevel(level)


def test_a_function_that_waits_for_the_ledger_does_not_stop_the_page(system):
    services = stack.get_services()
    reading = threading.Thread(target=system.read_status, daemon=True)
    with services.ledger._session(), services.queue._session():
        reading.start()
        reading.join(PATIENCE_S)
        assert not reading.is_alive()


def test_the_settings_are_exported_while_it_runs(system):
    assert os.environ["SEGUE_GRAPH"] == os.path.abspath("jobs.yaml")
    system.close()
    assert "SEGUE_GRAPH" not in os.environ


def test_a_ledger_that_was_deleted_ends_the_sweeps_and_is_the_system_s_failure(system, monkeypatch):
    monkeypatch.setattr(system_module, "SWEEP_S", 0.01)
    for name in Path(".segue").glob("ledger.db*"):
        if name.suffix != ".up":
            name.unlink()
    system._sweeper.start()
    system._sweeper.join(PATIENCE_S)
    assert not system._sweeper.is_alive()
    assert "was deleted, moved or replaced" in str(system.failure)
