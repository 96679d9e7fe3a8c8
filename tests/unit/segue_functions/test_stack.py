"""How a function's stack is put together, once, and warmed where it pays."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from segue.errors import ConfigurationError
from segue.log import LOGGER
from segue_functions import stack
from segue_support.paths import ROOT

GRAPH = """
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, logged) -> Path:
    """A working folder with a graph, and no setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("GRAPH", "CATALOGUE", "ARTIFACTS", "LEDGER", "QUEUE", "ON_DELETION"):
        monkeypatch.delenv(f"SEGUE_{name}", raising=False)
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    yield tmp_path
    stack.close()


def test_the_embedded_stack_is_built_below_the_working_folder(folder):
    made = stack.get_services()
    assert sorted(p.name for p in (folder / ".segue").glob("*.db")) == ["ledger.db", "queue.db"]
    assert made.artifacts.location == f"file://{folder}/.segue/artifacts"
    assert made.deletions.artifacts is None


def test_artifacts_are_removed_only_if_the_settings_say_so(folder, monkeypatch):
    monkeypatch.setenv("SEGUE_ON_DELETION", "remove")
    made = stack.get_services()
    assert made.deletions.artifacts is made.artifacts


def test_the_stack_of_the_cloud_connects_nowhere_when_it_is_built(folder, monkeypatch):
    monkeypatch.setenv("SEGUE_LEDGER", "firestore://acme/segue")
    monkeypatch.setenv("SEGUE_QUEUE", "pubsub://acme-project")
    monkeypatch.setenv("SEGUE_ARTIFACTS", "gs://acme-features")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
    assert stack.get_services().artifacts.location == "gs://acme-features"


def test_many_threads_get_the_same_stack(monkeypatch):
    built = []
    threads = 16
    all_here = threading.Barrier(threads)

    def build(_settings):
        built.append(Mock())
        return built[-1]

    monkeypatch.setattr(stack, "build_services", build)
    got = []

    def ask():
        all_here.wait()
        got.append(stack.get_services())

    askers = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in askers:
        thread.start()
    for thread in askers:
        thread.join()
    stack.close()
    assert len(built) == 1
    assert got == built * threads


def test_what_could_not_be_built_is_tried_again(folder):
    (folder / "jobs.yaml").unlink()
    with pytest.raises(ConfigurationError, match=r"no jobs\.yaml here"):
        stack.get_services()
    (folder / "jobs.yaml").write_text(GRAPH)
    assert list(stack.get_services().graph.jobs) == ["a"]


def test_a_queue_that_is_none_leaves_no_ledger_open(folder, monkeypatch):
    """An open database would be a warning when it is collected, and warnings are errors here."""
    monkeypatch.setenv("SEGUE_QUEUE", "rabbit://x")
    with pytest.raises(ConfigurationError, match="not a queue"):
        stack.get_services()


def test_logs_that_somebody_has_directed_stay_so(folder):
    before = list(LOGGER.handlers)
    stack.get_services()
    assert LOGGER.handlers == before


def test_logs_that_nobody_has_directed_are_json_on_standard_output(folder, monkeypatch, capsys):
    monkeypatch.setattr(LOGGER, "handlers", [])
    stack.get_services()
    assert LOGGER.handlers[0].stream is sys.stdout


# --- warming ----------------------------------------------------------------------------------

PROBE = """
import sys
from segue_functions.stack import warm
warm({parts})
print(*sorted(m for m in sys.modules if m in {clients}))
"""
CLIENTS = {"google.cloud.firestore_v1", "google.pubsub_v1", "google.cloud.storage", "sqlite3"}
CLOUD = {
    "SEGUE_LEDGER": "firestore://acme",
    "SEGUE_QUEUE": "pubsub://acme-project",
    "SEGUE_ARTIFACTS": "gs://acme-features",
}


def warmed(folder: Path, *parts: str, **environ: str) -> subprocess.CompletedProcess[str]:
    code = PROBE.format(parts=", ".join(map(repr, parts)), clients=CLIENTS)
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize(
    ("parts", "imported"),
    [
        (("ledger", "queue"), "google.cloud.firestore_v1 google.pubsub_v1"),
        (("ledger", "artifacts"), "google.cloud.firestore_v1 google.cloud.storage"),
    ],
)
def test_on_cloud_functions_the_clients_of_its_parts_are_imported(folder, parts, imported):
    assert warmed(folder, *parts, K_SERVICE="arrival", **CLOUD).stdout.strip() == imported


def test_elsewhere_nothing_is_imported_ahead(folder):
    assert warmed(folder, "ledger", "queue", K_SERVICE="", **CLOUD).stdout.strip() == ""


def test_on_the_embedded_stack_there_is_nothing_to_import(folder):
    assert warmed(folder, "ledger", "queue", K_SERVICE="arrival").stdout.strip() == ""


def test_a_wrong_set_up_is_told_when_the_function_starts_and_does_not_stop_it(folder):
    environ = {"SEGUE_GRAPH": "gone.yaml", "K_SERVICE": "arrival"}
    assert '"action": "misconfigured"' in warmed(folder, "ledger", **environ).stdout
