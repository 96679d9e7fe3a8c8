"""Media files at hand, for tests of what works on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from segue.media.decode import LocalMedia

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def open_media(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LocalMedia]:
    """Open a local file as a worker does, in a private folder."""

    def opened(path: str | Path) -> LocalMedia:
        folder = str(tmp_path_factory.mktemp("decoded"))
        name = str(path).rpartition("/")[2]
        uri = f"file:///music/{name}"
        return LocalMedia(uri=uri, generation=1, path=str(path), folder=folder)

    return opened
