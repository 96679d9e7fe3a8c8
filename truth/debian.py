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
    "asterisk-core-sounds-en-wav": "1.6.1-1",
    "fluid-soundfont-gm": "3.1-5.3",
    "freedoom": "0.12.1-2",
    "fretsonfire-songs-muldjord": "2.dfsg-2.1",
    "fretsonfire-songs-sectoid": "1.dfsg-3.1",
    "mma": "21.09-1",
    "openttd-openmsx": "0.4.2-1",
}


class MaterialMissing(Exception):
    """A package cannot be had; the message says what to do."""


def unpack_package(name: str, cache: Path) -> Path:
    """Return the folder that holds the files of a package; download it if it is not there.

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
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        done = subprocess.run(
            ["apt-get", "download", "--quiet", f"{name}={VERSIONS[name]}"],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise MaterialMissing(
                f"{name}: apt-get has no version {VERSIONS[name]}: {done.stderr.strip()}; run "
                f"`apt-get update`, or unpack that package of Debian 12 into {folder}"
            )
        (archive,) = Path(scratch).glob("*.deb")
        unpacked = Path(scratch) / "unpacked"
        subprocess.run(["dpkg-deb", "--extract", archive, unpacked], check=True)
        os.replace(unpacked, folder)
    return folder
