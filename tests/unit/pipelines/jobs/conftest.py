"""Tests call the jobs in their own process, and several such processes may run at once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from shared.worker import compiled


@pytest.fixture(scope="session", autouse=True)
def _own_compiled_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let no two of them compile into the same files."""
    before = os.environ.get(compiled.VARIABLE)
    own = compiled.use_own(str(tmp_path_factory.mktemp("compiled")))
    import numba  # reads the variable, which is for this process alone

    assert own == numba.config.CACHE_DIR
    if before is None:
        del os.environ[compiled.VARIABLE]
    else:
        os.environ[compiled.VARIABLE] = before
    yield
    if before is None:
        compiled.leave([own])
