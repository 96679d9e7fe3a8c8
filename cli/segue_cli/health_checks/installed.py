"""Checks the packages and programs that Segue uses."""

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
from segue.extras import find_extra, format_hint
from segue.media.ffmpeg import find_ffmpeg
from segue.model.artifact import find_version
from segue_cli.health_checks.check import Check, CheckFault, CheckNote, CheckResult

PROGRAM_S = 20.0
# Package → the module of it by which Segue knows the extra that installs it.
PACKAGES = {
    "apache-beam": "apache_beam",
    "av": "av",
    "librosa": "librosa",
    "numpy": "numpy",
    "soundfile": "soundfile",
    "onnxruntime": "onnxruntime",
    "google-cloud-storage": "google.cloud.storage",
    "google-cloud-firestore": "google.cloud.firestore_v1",
    "google-cloud-pubsub": "google.cloud.pubsub_v1",
    "functions-framework": "functions_framework",
}
# Extra → what it is for, where only some commands need it.
PURPOSES = {"functions": "by 'segue up'", "models": "by jobs that run models"}
# Program → the option that prints its version, and its purpose.
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


def list_installed_checks() -> Iterator[Check]:
    """Yield one check per package, program and emulator."""
    group = "installed"
    yield Check(group, "Python", lambda: CheckResult(platform.python_version()))
    yield Check(group, "Segue", lambda: CheckResult(find_version()))
    for package, module in PACKAGES.items():
        extra = find_extra(module)
        assert extra is not None
        yield Check(group, package, partial(_check_package, package, extra))
    yield Check(group, "ffmpeg", _check_ffmpeg)
    for program, (flag, purpose) in PROGRAMS.items():
        yield Check(group, program, partial(_check_program, program, flag, purpose))
    for emulator, variable in EMULATORS.items():
        if address := os.environ.get(variable):
            yield Check(
                group,
                emulator,
                partial(CheckNote, f"in use, at {address} ({variable})"),
            )


def _check_package(package: str, extra: str) -> CheckResult:
    try:
        return CheckResult(metadata.version(package))
    except metadata.PackageNotFoundError:
        hint = format_hint(extra)
        if extra in PURPOSES:
            return CheckNote("not installed", f"needed only {PURPOSES[extra]}: {hint}")
        return CheckFault("not installed", hint)


def _check_ffmpeg() -> CheckResult:
    path = find_ffmpeg()
    return CheckResult(f"{_read_version(path, '-version')} at {path}")


def _check_program(program: str, flag: str, purpose: str) -> CheckResult:
    path = shutil.which(program)
    if path is None:
        return CheckNote("not installed", f"needed only {purpose}")
    return CheckResult(f"{_read_version(path, flag)} at {path}")


def _read_version(path: str, flag: str) -> str:
    """Run a program, and return the first version number in its output."""
    try:
        answer = subprocess.run(
            [path, flag], capture_output=True, text=True, timeout=PROGRAM_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{path} cannot be run ({error}); install it again") from error
    found = VERSION.search(answer.stdout + answer.stderr)
    return found.group().strip("\"',") if found else "some version"
