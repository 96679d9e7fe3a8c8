"""``segue console`` as a process: what it prints, what it shows, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import requests

from segue.testing.sound import tone, write
from segue_support.processes import Process, is_alive, list_descendants
from segue_support.results import ResultWriter

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 60.0
MOODS = """
namespace: moods
artifacts: moods
jobs:
  mood: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


@pytest.fixture
def writer(tmp_path) -> ResultWriter:
    """A catalogue of a file with a result."""
    (tmp_path / "music").mkdir()
    write(tone(440.0, 0.5), str(tmp_path / "music" / "a.wav"))
    found = ResultWriter(tmp_path)
    found.write("a.wav", beats={"tempo_bpm": 120.0})
    return found


def start(folder: Path, *arguments: str) -> Process:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    return Process(
        [SEGUE, "console", "--no-browser", "--port", "0", *arguments],
        cwd=str(folder),
        environ={**clean, "XDG_CACHE_HOME": str(folder / "caches")},
    )


def open_browser(process: Process) -> tuple[requests.Session, str]:
    """Open the address that a console has printed as JSON; return the start of its pages'."""
    url = process.wait_for(lambda line: "url" in line)["url"]
    browser = requests.Session()
    assert browser.get(url, timeout=PATIENCE_S).status_code == 200
    return browser, url.partition("/?")[0]


def test_it_prints_an_address_that_lets_in(writer):
    with start(writer.folder, "--ledger", writer.url) as process:
        until_s = time.monotonic() + PATIENCE_S
        while not (said := re.search(r"Console: (\S+)", "\n".join(process.text))):
            assert time.monotonic() < until_s
            time.sleep(0.05)
        url = said[1]
        assert requests.get(url, timeout=PATIENCE_S).status_code == 200
        without = url.partition("?")[0]
        assert requests.get(without, timeout=PATIENCE_S).status_code == 403
        other = f"{url[:-4]}AAAA"
        assert requests.get(other, timeout=PATIENCE_S).status_code == 403
        os.kill(process.pid, signal.SIGINT)
        assert process.wait() == 0
    assert not any("Traceback" in line for line in process.text)


def test_each_start_has_another_token(writer):
    urls = []
    for _ in range(2):
        with start(writer.folder, "--ledger", writer.url, "--json") as process:
            urls.append(process.wait_for(lambda line: "url" in line)["url"])
            assert process.terminate() == 0
    assert len({url.partition("token=")[2] for url in urls}) == 2


def test_several_graphs_are_shown_beside_one_another(writer):
    folder = writer.folder / "moods"
    folder.mkdir()
    (folder / "jobs.yaml").write_text(MOODS)
    graphs = ("jobs.yaml", "moods/jobs.yaml")
    with start(writer.folder, "--json", *graphs) as process:
        browser, base = open_browser(process)
        first = browser.get(f"{base}/default/", timeout=PATIENCE_S).text
        assert 'href="/moods/"' in first
        assert 'data-node="beats"' in first
        second = browser.get(f"{base}/moods/", timeout=PATIENCE_S).text
        assert 'data-node="mood"' in second
        assert 'data-node="beats"' not in second
        assert process.terminate() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_end_leaves_no_process(writer, number):
    """It has a worker, which has computed a waveform, and a plan that waits for a graph."""
    with start(writer.folder, "--ledger", writer.url, "--json") as process:
        browser, base = open_browser(process)
        waveform = f"{base}/default/file/waveform"
        given = {"uri": writer.uri("a.wav")}
        until_s = time.monotonic() + PATIENCE_S
        while browser.get(waveform, params=given, timeout=PATIENCE_S).status_code == 202:
            assert time.monotonic() < until_s
            time.sleep(0.1)
        worker = list_descendants(process.pid)
        given = {"job": "beats", "prefix": "music"}
        browser.get(f"{base}/default/plan", params=given, timeout=PATIENCE_S)
        while not (plan := list_descendants(process.pid) - worker):
            assert time.monotonic() < until_s
            time.sleep(0.01)
        os.kill(process.pid, number)
        assert process.wait() == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        while left := [p for p in worker | plan if is_alive(p)]:
            assert time.monotonic() < until_s, left
            time.sleep(0.05)
