"""Media files at hand, and what a worker gives to a job, for tests of what works on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from segue import job_progress
from segue.job_progress import ChildPage, use_page
from segue.media.decode import LocalMedia
from segue.worker.process import MemoryLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def open_media(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LocalMedia]:
    """Open a local file as a worker does, in a private folder."""

    def opened(path: str | Path) -> LocalMedia:
        folder = str(tmp_path_factory.mktemp("decoded"))
        name = str(path).rpartition("/")[2]
        uri = f"file:///music/{name}"
        return LocalMedia(uri=uri, version="1", path=str(path), folder=folder)

    return opened


@pytest.fixture
def bound_memory() -> Iterator[Callable[[float], None]]:
    """Bound this process's memory to so many GiB more than now, as a worker does, for a test."""
    limit = MemoryLimit(0.0)
    yield limit.set_limit
    limit.clear_limit()


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildPage]:
    """The page of this process, as if it were a worker's child in its first call."""
    made = ChildPage()
    monkeypatch.setattr(job_progress, "_page", None)
    use_page(made)
    made.call = 1
    yield made
    made.close()
