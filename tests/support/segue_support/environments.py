"""Python environments in which Segue is installed from its wheel, not from this source tree.

Nothing is downloaded: other packages are those of the environment that runs the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from segue_support.paths import ROOT

PACKAGES = Path(pytest.__file__).parents[1]  # where the test environment keeps other packages
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment, known by its interpreter."""

    python: str

    @property
    def segue(self) -> str:
        """The path of the ``segue`` script."""
        return os.path.join(os.path.dirname(self.python), "segue")

    def run(self, *arguments: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program, and check its exit code."""
        done = subprocess.run(
            arguments,
            cwd=cwd,
            env=environ(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


def environ() -> dict[str, str]:
    """Return the variables of this process, without settings of Segue, pytest or Python."""
    ours = ("SEGUE_", "PYTEST_", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def find_uv() -> str:
    """Return the path of uv, which ``make setup`` installs."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    assert uv is not None, "uv is not installed: run 'make setup'"
    return uv


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this source tree, and return its path."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=TIMEOUT_S)
    [wheel] = folder.glob("*.whl")
    return wheel


def create_environment(folder: Path) -> Environment:
    """Create an empty environment."""
    uv = find_uv()
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    return Environment(str(folder / "bin" / "python"))


def install_with_all(wheel: Path, folder: Path) -> Environment:
    """Install a wheel where all packages of the test environment can be imported, too.

    Their folder goes on the path by a ``.pth`` file. Python ignores such files within that folder,
    one of which is the editable install of this source tree.
    """
    made = create_environment(folder)
    site = _install(wheel, made)
    (site / "packages.pth").write_text(f"{PACKAGES}\n")
    return made


def install_with_extras(wheel: Path, folder: Path, extras: Sequence[str]) -> Environment:
    """Install a wheel with only the packages that it needs itself, and those of some extras."""
    made = create_environment(folder)
    site = _install(wheel, made)
    [segue] = metadata.distributions(path=[str(site)])
    for distribution in _find_requirements(segue, extras):
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(PACKAGES / top)
    return made


def _install(wheel: Path, environment: Environment) -> Path:
    """Install a wheel, and return the folder in which its packages are."""
    install = [find_uv(), "pip", "install", "--quiet", "--offline", "--no-deps"]
    subprocess.run([*install, "--python", environment.python, wheel], check=True)
    [site] = Path(environment.python).parents[1].glob("lib/python*/site-packages")
    return site


def _find_requirements(
    start: metadata.Distribution, extras: Sequence[str]
) -> list[metadata.Distribution]:
    """Return the distributions that one needs, and those that they need in turn."""
    found: dict[str, metadata.Distribution] = {}
    left = [(start, ("", *extras))]
    while left:
        distribution, wanted = left.pop()
        for requirement in map(Requirement, distribution.requires or ()):
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": e}) for e in wanted):
                continue
            name = canonicalize_name(requirement.name)
            if name not in found and name != canonicalize_name(start.name):
                [found[name]] = metadata.distributions(name=name, path=[str(PACKAGES)])
                left.append((found[name], ("", *requirement.extras)))
    return list(found.values())
