"""Environments with Segue installed in them, each created once for a test process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from segue_support import environments
from segue_support.environments import Environment


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this source tree."""
    return environments.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def editable() -> Environment:
    """The environment that runs the tests: Segue's modules are those of this source tree."""
    return Environment(sys.executable)


@pytest.fixture(scope="session")
def with_all(wheel, tmp_path_factory) -> Environment:
    """The wheel, with the packages of all extras."""
    return environments.install_with_all(wheel, tmp_path_factory.mktemp("all") / "venv")


@pytest.fixture(scope="session")
def with_core(wheel, tmp_path_factory) -> Environment:
    """The wheel, with no extra."""
    return environments.install_with_extras(wheel, tmp_path_factory.mktemp("core") / "venv", [])


@pytest.fixture(scope="session")
def with_cli(wheel, tmp_path_factory) -> Environment:
    """The wheel, with the extra ``cli`` and no other."""
    folder = tmp_path_factory.mktemp("cli") / "venv"
    return environments.install_with_extras(wheel, folder, ["cli"])
