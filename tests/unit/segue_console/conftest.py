"""A console of a folder with a few files, without a server and without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from segue.model.settings import Settings
from segue_console.app import build_app
from segue_console.namespace import Namespace, open_namespaces
from segue_console.plans import Plans
from segue_console.security import TokenAccess
from segue_console.waveforms import Waveforms
from segue_support.results import ResultWriter

HOST = "127.0.0.1:8765"
TOKEN = "secret"


class Console:
    """The application of a console, and a browser's cookies."""

    def __init__(
        self, folder: Path, namespaces: Mapping[str, Namespace], *, allow_changes: bool
    ) -> None:
        self.waveforms, self.plans = Waveforms(str(folder / "waveforms")), Plans()
        self.access = TokenAccess(TOKEN, 8765)
        app = build_app(
            namespaces,
            waveforms=self.waveforms,
            plans=self.plans,
            access=self.access,
            hosts=[HOST],
            allow_changes=allow_changes,
        )
        self.client = TestClient(app, base_url=f"http://{HOST}")

    def open(self) -> Console:
        """Let the browser in."""
        assert self.client.get(f"/?token={TOKEN}").status_code == 200
        return self

    def get(self, path: str, **parameters: str):
        return self.client.get(path, params=parameters or None)

    def post(self, path: str, page: str = "/default/", **fields):
        """Send a form as a page of the console does."""
        form = {"csrf": self.find_csrf(page), **fields}
        return self.client.post(path, data=form, headers={"Origin": f"http://{HOST}"})

    def find_csrf(self, page: str) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(page).text)
        assert found is not None, f"{page} has no form"
        return found[1]


@pytest.fixture
def writer(tmp_path, monkeypatch) -> ResultWriter:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music").mkdir()
    return ResultWriter(tmp_path)


@pytest.fixture
def namespace(writer) -> Iterator[Namespace]:
    found = Namespace(
        Settings(
            graph=str(writer.folder / "jobs.yaml"),
            ledger=writer.url,
            queue=f"sqlite:///{writer.folder}/queue.db",
        )
    )
    found.live.start()
    yield found
    found.close()


def build_console(writer: ResultWriter, namespace: Namespace, *, allow_changes: bool):
    namespaces = {namespace.name: namespace}
    console = Console(writer.folder, namespaces, allow_changes=allow_changes)
    try:
        with console.client:
            yield console
    finally:
        namespace.live.stop()
        console.waveforms.close()
        console.plans.close()


@pytest.fixture
def console(writer, namespace) -> Iterator[Console]:
    """One that only reads, with a browser that has been let in."""
    for found in build_console(writer, namespace, allow_changes=False):
        yield found.open()


@pytest.fixture
def writable(writer, namespace) -> Iterator[Console]:
    """One that may change things."""
    for found in build_console(writer, namespace, allow_changes=True):
        yield found.open()


@pytest.fixture
def open_console(tmp_path) -> Iterator[Callable[..., Console]]:
    """Open one of the graphs that some settings select."""
    with ExitStack() as opened:

        def open_one(*settings: Settings) -> Console:
            namespaces = opened.enter_context(open_namespaces(list(settings)))
            console = Console(tmp_path, namespaces, allow_changes=False)
            opened.callback(console.waveforms.close)
            opened.callback(console.plans.close)
            opened.enter_context(console.client)
            return console.open()

        yield open_one
