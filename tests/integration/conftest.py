"""Environments with Segue installed in them, each created once for a test process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from segue_support import environments
from segue_support.environments import Environment
from segue_support.paths import ROOT

FRAMES = ROOT / "locks" / "frames.txt"
INSTALL_S = 300.0


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


@pytest.fixture(scope="session")
def frames(pytestconfig) -> Path:
    """A folder with pandas and polars as their lock names them, to add to the path."""
    beside = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    uv = shutil.which("uv", path=beside) or _give_up("uv, which installs packages")
    folder = pytestconfig.cache.mkdir("frames")
    done = folder / "installed"
    inputs = f"{sys.version}\n{FRAMES.read_text()}"
    if not (done.exists() and done.read_text() == inputs):
        shutil.rmtree(folder)
        wanted = ["--no-deps", "--require-hashes", "--requirements", str(FRAMES)]
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
        command += ["--target", str(folder), *wanted]
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
        assert ran.returncode == 0, ran.stderr
        done.write_text(inputs)
    return folder


def _give_up(missing: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI lets no test skip: there is no {missing}")
    pytest.skip(f"there is no {missing}")
