"""A folder with results."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from segue_support.results import ResultWriter


@pytest.fixture
def writer(tmp_path, monkeypatch) -> Iterator[ResultWriter]:
    monkeypatch.chdir(tmp_path)
    for name in ("GRAPH", "CATALOGUE", "ARTIFACTS", "LEDGER"):
        monkeypatch.delenv(f"SEGUE_{name}", raising=False)
    made = ResultWriter(tmp_path)
    yield made
    made.ledger.close()
