"""The packages and programs that Segue works with."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from importlib import metadata

from segue.errors import ConfigurationError
from segue.media.ffmpeg import ffmpeg_executable
from segue.model.artifact import segue_version
from segue_cli.health_checks.check import Look, Seen, Status

PROGRAM_S = 20.0
# Package → the extra of Segue that brings it.
PACKAGES = {
    "apache-beam": "pipelines",
    "librosa": "audio",
    "numpy": "audio",
    "soundfile": "audio",
    "google-cloud-storage": "cloud",
    "google-cloud-firestore": "cloud",
    "google-cloud-pubsub": "cloud",
}
# Program → how it tells its version, and what it is for.
PROGRAMS = {
    "gcloud": ("--version", "to log in to Google Cloud"),
    "terraform": ("-version", "to set up the cloud"),
    "java": ("-version", "for the emulators of Firestore and Pub/Sub"),
}
# Emulator → the variable that makes clients use it instead of the cloud.
EMULATORS = {
    "Firestore emulator": "FIRESTORE_EMULATOR_HOST",
    "Pub/Sub emulator": "PUBSUB_EMULATOR_HOST",
    "Cloud Storage emulator": "STORAGE_EMULATOR_HOST",
}
VERSION = re.compile(r"\d+(?:\.\d+)+\S*")


def installed() -> Iterator[Look]:
    """Look at each of them."""
    group = "installed"
    yield Look(group, "Python", lambda: Seen(Status.OK, platform.python_version()))
    yield Look(group, "Segue", lambda: Seen(Status.OK, segue_version()))
    for package, extra in PACKAGES.items():
        yield Look(group, package, partial(_package, package, extra))
    yield Look(group, "ffmpeg", _ffmpeg)
    for program, (flag, purpose) in PROGRAMS.items():
        yield Look(group, program, partial(_program, program, flag, purpose))
    for emulator, variable in EMULATORS.items():
        if address := os.environ.get(variable):
            yield Look(
                group, emulator, partial(Seen, Status.NOTE, f"in use, at {address} ({variable})")
            )


def _package(package: str, extra: str) -> Seen:
    try:
        return Seen(Status.OK, metadata.version(package))
    except metadata.PackageNotFoundError:
        return Seen(Status.FAULT, "not installed", f"install Segue with its extra {extra!r}")


def _ffmpeg() -> Seen:
    path = ffmpeg_executable()
    return Seen(Status.OK, f"{_version(path, '-version')} at {path}")


def _program(program: str, flag: str, purpose: str) -> Seen:
    path = shutil.which(program)
    if path is None:
        return Seen(Status.NOTE, "not installed", f"needed only {purpose}")
    return Seen(Status.OK, f"{_version(path, flag)} at {path}")


def _version(path: str, flag: str) -> str:
    """The first thing in a program's answer that reads like a version."""
    try:
        answer = subprocess.run(
            [path, flag], capture_output=True, text=True, timeout=PROGRAM_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{path} cannot be run ({error}); install it again") from error
    found = VERSION.search(answer.stdout + answer.stderr)
    return found.group().strip("\"',") if found else "some version"
