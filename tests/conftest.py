"""The emulators, each started at most once a session, and how Hypothesis runs here.

No example is timed, since other work on the machine is no fault of the code.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from segue.log import LOGGER
from segue.worker import numba_cache
from segue_support import emulators

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Built on the profile that Hypothesis chooses itself: in CI, the examples are the same each time.
settings.register_profile(
    "segue", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("segue")


def pytest_configure(config: pytest.Config) -> None:
    """Whoever runs the tests in the background ignores Ctrl-C, and child processes inherit that.

    Bytecode is kept even if the environment says otherwise: hundreds of child processes that import
    Beam or librosa would compile them again, which takes half of their time.

    Each test process has a numba cache of its own: two that compile into one would leave a cache
    that crashes whoever loads it. It is set before any test module can import numba, and stays set.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    own = contextlib.ExitStack()
    own.enter_context(numba_cache.use_temporary_cache())
    config.add_cleanup(own.close)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that was skipped, for whatever reason, is a test that failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Leave the log as it was: what jobs print goes there, if it is configured."""
    level, handlers, propagate = LOGGER.level, [*LOGGER.handlers], LOGGER.propagate
    yield
    LOGGER.handlers[:], LOGGER.propagate = handlers, propagate
    LOGGER.setLevel(level)  # which also forgets what it has decided about other levels


def _started(emulator: emulators.Emulator) -> Iterator[str]:
    if reason := emulators.describe_missing(emulator):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI lets no test skip: {reason}")
        pytest.skip(reason)
    with emulators.run_emulator(emulator) as address:
        yield address


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[str]:
    """Where the Firestore emulator is; it makes any project at its first use."""
    yield from _started(emulators.FIRESTORE)


@pytest.fixture(scope="session")
def pubsub_emulator() -> Iterator[str]:
    """Where the Pub/Sub emulator is; it makes any project at its first use."""
    yield from _started(emulators.PUBSUB)


@pytest.fixture(scope="session")
def storage_emulator() -> Iterator[str]:
    """Where fake-gcs-server is, as a URL."""
    yield from _started(emulators.STORAGE)


@pytest.fixture
def project() -> str:
    """A project that no other test uses."""
    return f"test-{uuid.uuid4().hex[:16]}"


@pytest.fixture
def user_credentials(tmp_path: Path) -> str:
    """A file with credentials of the right form, which nobody accepts."""
    credentials = {
        "type": "authorized_user",
        "client_id": "nobody.apps.googleusercontent.com",
        "client_secret": "none",
        "refresh_token": "none",
        "quota_project_id": "acme-audio",
    }
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(credentials))
    return str(path)


@pytest.fixture
def firestore_url(firestore_emulator: str, project: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty ledger in the Firestore emulator."""
    monkeypatch.setenv(emulators.FIRESTORE.variable, firestore_emulator)
    return f"firestore://{project}"


@pytest.fixture
def bucket(storage_emulator: str, project: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket in fake-gcs-server."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    monkeypatch.setenv(emulators.STORAGE.variable, storage_emulator)
    client = storage.Client(project=project, credentials=AnonymousCredentials())
    client.create_bucket(project)
    client.close()
    return project
