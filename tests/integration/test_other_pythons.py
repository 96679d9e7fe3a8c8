"""The built-in jobs write the same bytes on every Python that Segue runs on.

The packages are those of the lock, which may name other versions for other Pythons. Environments
are kept in pytest's cache: the first run installs and compiles.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from segue.testing import sound
from segue_support.built_in_jobs import compute_artifacts
from segue_support.paths import ROOT

PYTHONS = ("3.11", "3.12", "3.13")
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
LOCK = Path(ROOT, "locks", "dev.txt")
SETUP_S = 300.0


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory) -> Path:
    """A folder of music at two rates, and of speech's rate."""
    folder = tmp_path_factory.mktemp("catalogue")
    sound.write(sound.music(1, bpm=96, duration_s=15.0), str(folder / "stereo.flac"))
    sound.write(sound.music(2, bpm=128, duration_s=15.0, sr=48_000), str(folder / "48.mp3"))
    sound.write(sound.music(3, bpm=110, duration_s=8.0, sr=8000, channels=1), str(folder / "8.wav"))
    return folder


@pytest.fixture(scope="session")
def expected(catalogue, tmp_path_factory) -> dict[str, bytes]:
    """The artifacts that this Python writes."""
    return compute_artifacts(sys.executable, catalogue, tmp_path_factory.mktemp("artifacts"), {})


@pytest.mark.parametrize("version", [v for v in PYTHONS if v != THIS])
def test_artifacts_are_the_same_bytes_on(version, catalogue, expected, tmp_path, pytestconfig):
    uv = _find_uv()
    interpreter = _find_python(uv, version)
    environment = pytestconfig.cache.mkdir("pythons") / version
    python = _install(uv, interpreter, environment)
    artifacts = compute_artifacts(str(python), catalogue, tmp_path, {})
    assert artifacts.keys() == expected.keys()
    assert [name for name in expected if artifacts[name] != expected[name]] == []


def _find_uv() -> str:
    beside = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    uv = shutil.which("uv", path=beside)
    if uv is None:
        _give_up("uv, which installs packages for other Pythons")
    return uv


def _find_python(uv: str, version: str) -> str:
    # Where pyenv is installed, its commands run only the versions that this variable names.
    environ = {**os.environ, "PYENV_VERSION": ":".join(PYTHONS)}
    arguments = [uv, "python", "find", "--no-project", "--no-python-downloads", version]
    found = subprocess.run(arguments, env=environ, capture_output=True, text=True, check=False)
    if found.returncode:
        _give_up(f"python{version} on PATH")
    return found.stdout.strip()


def _give_up(missing: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI lets no test skip: there is no {missing}")
    pytest.skip(f"there is no {missing}")


def _install(uv: str, interpreter: str, environment: Path) -> Path:
    """Install what the extra ``audio`` needs, in the versions of the lock; return the python."""
    python = environment / "bin" / "python"
    done = environment / "installed"
    inputs = LOCK.read_text() + Path(ROOT, "pyproject.toml").read_text() + interpreter
    if not (done.exists() and done.read_text() == inputs):
        _run([uv, "venv", "--quiet", "--clear", "--python", interpreter, str(environment)], SETUP_S)
        audio = ["-r", os.path.join(ROOT, "pyproject.toml"), "--extra", "audio", "-c", str(LOCK)]
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *audio], SETUP_S)
        done.write_text(inputs)
    return python


def _run(arguments: list[str], timeout_s: float) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
