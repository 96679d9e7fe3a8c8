"""Which extra of Segue installs which package, for errors that say how to install a missing one.

Packages are imported where they are used, so a missing one shows as a ``ModuleNotFoundError`` deep
in the code that needs it. Whoever reports that error finds here which extra to name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from segue.errors import ConfigurationError

# What installers call Segue. Its packages and its command have the name that was taken.
DISTRIBUTION = "segue-features"

# Extra → the modules that Segue imports from the packages of that extra. Those of Google have their
# full names, since a user's own code may need other packages below `google`.
MODULES: Mapping[str, tuple[str, ...]] = {
    "cli": ("click", "rich", "watchdog"),
    "audio": (
        "PIL",
        "av",
        "ffmpeg",
        "imageio_ffmpeg",
        "librosa",
        "matplotlib",
        "mido",
        "numba",
        "numpy",
        "pyarrow",
        "scipy",
        "soundfile",
        "soxr",
    ),
    "cloud": (
        "google",
        "google.api_core",
        "google.auth",
        "google.cloud",
        "google.cloud.firestore",
        "google.cloud.firestore_v1",
        "google.cloud.pubsub_v1",
        "google.cloud.storage",
        "google.protobuf.timestamp_pb2",
        "google.pubsub_v1",
        "google.rpc",
        "google_crc32c",
        "grpc",
        "requests",
    ),
    "console": ("jinja2", "markupsafe", "starlette", "uvicorn"),
    "functions": ("cloudevents", "flask", "functions_framework", "waitress", "werkzeug"),
    "models": ("ctranslate2", "numpy", "onnxruntime"),
    "pipelines": ("apache_beam", "google", "google.cloud.bigquery"),
    "profile": ("memray", "pyinstrument"),
}


class MissingExtra(ConfigurationError, ModuleNotFoundError):
    """Packages of some extras are not installed."""

    def __init__(self, what: str, *extras: str) -> None:
        many = "extras" if len(extras) > 1 else "extra"
        names = " and ".join(repr(extra) for extra in extras)
        super().__init__(f"{what} needs the {many} {names}; {format_hint(*extras)}")
        self.what, self.extras = what, extras

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, ...]]:
        """Pickle the arguments: a worker process sends its errors to its parent."""
        return MissingExtra, (self.what, *self.extras)


class MissingPackage(ConfigurationError, ModuleNotFoundError):
    """A package that no extra of Segue brings is not installed."""


def find_extra(module: str | None) -> str | None:
    """Return the extra that installs a module, such as the name of a ``ModuleNotFoundError``."""
    if module is None:
        return None
    name = module if module.startswith("google.") else module.partition(".")[0]
    return next((extra for extra, modules in MODULES.items() if name in modules), None)


def format_hint(*extras: str) -> str:
    """Return how to install extras, as a requirement: with pip, uv or pipx, from wherever."""
    return f"install Segue as '{DISTRIBUTION}[{','.join(extras)}]'"


def require(what: str, *extras: str) -> None:
    """Check that all packages of some extras can be imported, without importing them.

    Raises
    ------
    MissingExtra
        If not. ``what`` is the subject of its message.
    """
    missing = [extra for extra in extras if not all(map(_can_be_found, MODULES[extra]))]
    if missing:
        raise MissingExtra(what, *missing)


def require_package(what: str, package: str, otherwise: str) -> None:
    """Check that a package that no extra brings can be imported, without importing it.

    Raises
    ------
    MissingPackage
        If not. ``what`` is the subject of its message, and ``otherwise`` says what works without.
    """
    if not _can_be_found(package):
        raise MissingPackage(
            f"{what} needs the package {package!r}; install it with 'pip install {package}', or "
            f"{otherwise}"
        )


def _can_be_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False
