"""The functions with services in memory, and what they log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from segue.adapters.connect import connect_store
from segue.ingest.catalogue import build_media_filter
from segue.ingest.events import Arrivals, Deletions
from segue.ingest.requests import Requests
from segue.ingest.sweep import Sweeper
from segue.log import LOGGER
from segue.model.graph import Graph, parse_graph
from segue.model.message import Message, decode_message
from segue.model.settings import Settings
from segue_functions import stack
from segue_functions.stack import Services
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

GRAPH = """
include: ["*.wav"]
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
"""


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.segue)  # type: ignore[attr-defined]


@pytest.fixture
def logged(monkeypatch) -> Iterator[list[dict[str, Any]]]:
    """What is logged from now on."""
    handler = _Lines()
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    monkeypatch.setattr(LOGGER, "propagate", False)
    level = LOGGER.level
    LOGGER.setLevel(logging.INFO)  # which forgets, too, what was found to be off before
    yield handler.lines
    LOGGER.setLevel(level)


class Memory:
    """Services in memory, with artifacts and music in folders."""

    def __init__(self, folder, graph: Graph) -> None:
        self.ledger = MemoryLedger()
        self.queue = MemoryQueue()
        self.artifacts = connect_store(str(folder / "artifacts"))
        self.music = connect_store(str(folder / "music"))
        settings = Settings(artifacts=str(folder / "artifacts"))
        media_filter = build_media_filter(graph, settings, anywhere=True)
        self.services = Services(
            graph=graph,
            ledger=self.ledger,
            queue=self.queue,
            artifacts=self.artifacts,
            media_filter=media_filter,
            arrivals=Arrivals(graph=graph, ledger=self.ledger, queue=self.queue),
            deletions=Deletions(
                graph=graph, ledger=self.ledger, queue=self.queue, artifacts=self.artifacts
            ),
            requests=Requests(
                graph=graph,
                ledger=self.ledger,
                queue=self.queue,
                media_filter=media_filter,
                open_store=connect_store,
                artifacts=self.artifacts,
            ),
            sweeper=Sweeper(graph=graph, ledger=self.ledger, queue=self.queue),
        )

    @property
    def messages(self) -> list[Message]:
        return [decode_message(envelope.data) for envelope in self.queue.queued.values()]


@pytest.fixture
def memory(tmp_path, monkeypatch, logged) -> Iterator[Memory]:
    """The services of this process, for as long as a test runs."""
    graph = parse_graph(
        f"catalogue: {tmp_path}/music\nartifacts: {tmp_path}/artifacts\n{GRAPH}", environ={}
    )
    made = Memory(tmp_path, graph)
    monkeypatch.setattr(stack, "build_services", lambda _settings: made.services)
    yield made
    stack.close()
