"""Packages of Debian: music, sound fonts and speech that nobody of this project made.

A package is downloaded by ``apt-get download`` and unpacked, not installed, into a folder of the
user's cache, once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# The versions that the figures of docs/features.md were measured on, of Debian 12.
VERSIONS = {
    "asterisk-core-sounds-en": "1.6.1-1",
    "asterisk-core-sounds-en-wav": "1.6.1-1",
    "asterisk-core-sounds-es-wav": "1.6.1-1",
    "asterisk-core-sounds-fr-wav": "1.6.1-1",
    "asterisk-core-sounds-it-wav": "1.6.1-1",
    "asterisk-core-sounds-ru-wav": "1.6.1-1",
    "fluid-soundfont-gm": "3.1-5.3",
    "fonts-dejavu-core": "2.37-6",
    "fonts-ebgaramond": "0.016+git20210310.42d4f9f2-1",
    "fonts-liberation2": "2.1.5-1",
    "freedoom": "0.12.1-2",
    "fretsonfire-songs-muldjord": "2.dfsg-2.1",
    "fretsonfire-songs-sectoid": "1.dfsg-3.1",
    "hyperrogue-music": "12.0q-1",
    "libchromaprint-tools": "1.5.1-2+b1",
    "mma": "21.09-1",
    "openttd-openmsx": "0.4.2-1",
    "scratch": "1.4.0.6~dfsg1-6.1",
    "singularity-music": "007-2",
    "tuxpaint-stamps-default": "2022.06.04-1",
}


class MaterialMissing(Exception):
    """A package cannot be had; the message says what to do."""


def unpack_package(name: str, cache: Path, *, runs: bool = False) -> Path:
    """Return the folder that holds the files of a package; download it if it is not there.

    Parameters
    ----------
    name : str
    cache : Path
    runs : bool
        Whether its programs are to run: what it depends on and this system lacks is there, too.

    Raises
    ------
    MaterialMissing
        If this system has no apt, or its sources lack the package or have another version.
    """
    folder = cache / f"{name}_{VERSIONS[name]}"
    if folder.is_dir():
        return folder
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise MaterialMissing(
                f"{name}: this system has no {tool}; run on Debian or Ubuntu, or unpack "
                f"version {VERSIONS[name]} of that package of Debian into {folder}"
            )
    cache.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}={VERSIONS[name]}"]
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        try:
            if runs:
                wanted += list_lacking(wanted[0])
            run_apt("download", "--quiet", *wanted, cwd=scratch)
        except subprocess.CalledProcessError as error:
            raise MaterialMissing(
                f"{name}: apt-get has no version {VERSIONS[name]}: {error.stderr.strip()}; run "
                f"`apt-get update`, or unpack that package of Debian 12 into {folder}"
            ) from error
        unpacked = Path(scratch) / "unpacked"
        for archive in sorted(Path(scratch).glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", archive, unpacked], check=True)
        os.replace(unpacked, folder)
    return folder


def list_lacking(wanted: str) -> list[str]:
    """Return the names of the packages that one depends on and that this system lacks."""
    printed = run_apt("install", "--print-uris", "--yes", "--no-install-recommends", wanted)
    archives = [line.split()[1] for line in printed.splitlines() if line.startswith("'")]
    names = {archive.partition("_")[0] for archive in archives}
    return sorted(names - {wanted.partition("=")[0]})


def run_apt(*arguments: str, cwd: str | None = None) -> str:
    """Return what apt-get prints."""
    command = ["apt-get", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout
