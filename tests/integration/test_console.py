"""The console in a browser: each page is opened, heard, and asked to do something.

Chromium is that of the system; Playwright only drives it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from segue.testing.music import music
from segue.testing.sound import click_track, tone, write
from segue_support.browser import open_browser
from segue_support.processes import Process

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_MS = 60_000
HOSTILE = "<img src=x onerror=alert(1)>' \"&{{7*7}}\u202e?#%.wav"
GRAPH = """
catalogue: music
artifacts: artifacts
include: ["*.wav", "*.flac"]
jobs:
  downsample:
    run: segue.features.resampling:downsample
    needs: {media: source}
    writes: audio/flac
    params: {sample_rate_hz: 22050, channels: 1}
    description: Mono at 22.05 kHz
    owner: platform
  beats:
    run: segue.features.rhythm:beats
    needs: {audio: downsample}
    writes: application/json
    owner: rhythm
  spectrogram:
    run: segue.features.spectrum:spectrogram
    needs: {audio: downsample}
    writes: image/png
  tags:
    run: features:tag
    needs: {media: source}
    writes: application/json
"""
TEAMS = {
    "platform": """
namespace: platform
registry: registry
artifacts: artifacts
jobs:
  downsample:
    run: segue.features.resampling:downsample
    needs: {media: source}
    writes: audio/flac
    publish: true
""",
    "rhythm": """
namespace: rhythm
registry: registry
artifacts: artifacts
jobs:
  beats:
    run: segue.features.rhythm:beats
    needs: {audio: platform/downsample}
    writes: application/json
""",
}
CODE = """
def tag(media):
    if "broken" in media.uri:
        raise ValueError("the file is not liked")
    return {
        "genre": "house",
        "segments": [
            {"start_s": 0.0, "end_s": 4.0, "kind": "music"},
            {"start_s": 4.0, "end_s": 8.0, "kind": "speech"},
        ],
        "lines": [
            {"start_s": 1.0, "end_s": 2.0, "text": "first"},
            {"start_s": 3.0, "end_s": 4.0, "text": "second"},
        ],
        "energy": 0.5,
    }
"""
PAGES = {
    "catalogue": "",
    "files": "files",
    "file": "file?uri={song}",
    "hostile": "file?uri={hostile}",
    "job": "jobs/tags",
    "runs": "runs",
    "failures": "failures",
    "plan": "plan",
}


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}


class Catalogue:
    """A project with a few files, and what a browser needs to open its console."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "music").mkdir()
        (folder / "jobs.yaml").write_text(GRAPH)
        (folder / "features.py").write_text(CODE)
        write(music(duration_s=8.0), str(folder / "music" / "song.wav"))
        write(click_track(120.0, 8.0), str(folder / "music" / "clicks.flac"))
        write(tone(440.0, 2.0), str(folder / "music" / HOSTILE))
        write(tone(220.0, 2.0), str(folder / "music" / "broken.wav"))

    def run(self, *arguments: str, code: int | None = 0) -> None:
        done = subprocess.run(
            [SEGUE, *arguments],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert code is None or done.returncode == code, done.stderr

    def uri(self, name: str) -> str:
        return f"file://{self.folder}/music/{name}"

    def start(self, *arguments: str, port: str = "0") -> Process:
        command = [SEGUE, arguments[0], "--port", port, *arguments[1:], "--json"]
        return Process(command, cwd=str(self.folder), environ=environment())


class Reader:
    """A browser that has been let in, and what went wrong in it."""

    def __init__(self, context: BrowserContext, url: str, catalogue: Catalogue) -> None:
        self.page: Page = context.new_page()
        self.base = url.partition("/?")[0]
        self.catalogue = catalogue
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("response", self._check)
        self.page.goto(url)

    def _note(self, message) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _check(self, response) -> None:
        if response.status >= 400:
            self.faults.append(f"{response.status} {response.url}")

    def open(self, path: str) -> Page:
        song, hostile = (quote(self.catalogue.uri(n), safe="") for n in ("song.wav", HOSTILE))
        self.page.goto(f"{self.base}/default/{path.format(song=song, hostile=hostile)}")
        return self.page


def wait_until(page: Page, expression: str) -> None:
    """Wait until an expression is true; Playwright's own way is code that the pages forbid."""
    until = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < until, expression
        page.wait_for_timeout(50)


def read_url(process: Process) -> str:
    """Wait until a console says where it is."""
    found = process.wait_for(lambda line: "url" in line)
    return str(found["url"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        expect.set_options(timeout=PATIENCE_MS)
        with open_browser() as found:
            yield found
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Catalogue:
    found = Catalogue(tmp_path_factory.mktemp("console"))
    found.run("backfill", "--all", code=None)
    return found


@pytest.fixture(scope="module")
def url(catalogue) -> Iterator[str]:
    with catalogue.start("console", "--no-browser") as process:
        yield read_url(process)
        assert process.terminate() == 0


@pytest.fixture
def reader(browser, url, catalogue) -> Iterator[Reader]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    found = Reader(context, url, catalogue)
    yield found
    context.close()
    assert found.faults == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_read_by_everybody(browser, url, catalogue, name, scheme):
    """axe finds nothing serious, at phone width either; nothing is wider than the phone."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    reader = Reader(context, url, catalogue)
    page = reader.open(PAGES[name])
    expect(page.locator("h1")).to_be_visible()
    if name == "file":
        expect(page.locator("[data-player][data-ready]")).to_be_attached()
    if name == "job":
        expect(page.get_by_text("What it writes")).to_be_visible()
    faults = [*reader.faults]  # axe sets styles that the pages forbid
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    serious = [v for v in found.response["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in serious] == []
    width = page.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert width <= 390
    assert faults == []


def test_the_graph_is_drawn_with_the_states_of_its_jobs(reader):
    page = reader.open("")
    expect(page.locator(".graph.drawn")).to_be_visible()
    tags = page.locator('[data-node="tags"]')
    expect(tags.locator("[data-counts]")).to_have_text("3 done, 1 failed")
    assert page.locator(".edges path").count() == 4
    boxes = {
        name: page.locator(f'[data-node="{name}"]').bounding_box()
        for name in ("source", "downsample", "beats")
    }
    assert boxes["source"]["x"] < boxes["downsample"]["x"] < boxes["beats"]["x"]
    tags.click()
    expect(page.locator("h1")).to_have_text("tags")


def test_a_file_is_played_sought_and_drawn(reader):
    page = reader.open(PAGES["file"])
    expect(page.locator("[data-player][data-ready]")).to_be_attached(timeout=PATIENCE_MS)
    expect(page.locator("[data-message]")).to_have_text("")
    assert page.locator(".wave canvas, .wave > div").count() > 0
    names = page.locator(".trackhead > span").all_text_contents()
    assert {"beats: beat_times", "tags: segments"} <= set(names)
    expect(page.locator(".labels").first).to_have_text("musicspeech")
    expect(page.locator(".range").first).to_contain_text(" to ")
    page.get_by_role("button", name="Play").click()
    wait_until(page, "document.querySelector('[data-media]').currentTime > 0.3")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.locator(".track canvas").first.click(position={"x": 600, "y": 10})
    wait_until(page, "document.querySelector('[data-media]').currentTime > 3")
    page.get_by_role("button", name="Pause").click()
    page.locator("body").press("ArrowLeft")
    wait_until(page, "document.querySelector('[data-media]').currentTime < 1")


def test_beats_are_heard_as_clicks(reader):
    page = reader.open(PAGES["file"])
    expect(page.locator("[data-player][data-ready]")).to_be_attached(timeout=PATIENCE_MS)
    page.get_by_label("hear as clicks").first.check()
    page.get_by_role("button", name="Play").click()
    wait_until(page, "Number(document.querySelector('[data-player]').dataset.clicks) >= 2")


def test_a_result_is_heard_instead_of_the_file(reader):
    page = reader.open(PAGES["file"])
    page.get_by_role("button", name="solo").click()
    page.get_by_role("button", name="Play").click()
    wait_until(page, "document.querySelector('.stem audio').currentTime > 0.3")
    assert page.evaluate("document.querySelector('[data-media]').muted")
    assert not page.evaluate("document.querySelector('.stem audio').muted")
    apart = "Math.abs(document.querySelector('.stem audio').currentTime - "
    apart += "document.querySelector('[data-media]').currentTime)"
    wait_until(page, f"{apart} < 0.2")


def test_a_file_that_the_browser_cannot_play_is_replaced_by_a_result(reader):
    reader.page.route(
        "**/media?*", lambda route: route.fulfill(body=b"?", content_type="audio/wav")
    )
    page = reader.open(PAGES["file"])
    expect(page.get_by_text("You hear the result downsample instead")).to_be_visible()
    page.get_by_role("button", name="Play").click()
    wait_until(page, "document.querySelector('[data-media]').currentTime > 0.3")


def test_results_are_drawn_in_time_where_there_is_no_waveform(reader):
    answer = {"status": 202, "body": "{}", "content_type": "application/json"}
    reader.page.route("**/waveform?*", lambda route: route.fulfill(**answer))
    page = reader.open(PAGES["file"])
    expect(page.get_by_text("Computing the waveform")).to_be_visible()
    expect(page.locator("[data-clock]")).to_have_text("0:00.0 / 0:08.0")
    page.locator(".track canvas").first.click(position={"x": 600, "y": 10})
    wait_until(page, "document.querySelector('[data-media]').currentTime > 3")


def test_a_transcript_is_read_with_the_arrow_keys(reader):
    page = reader.open(PAGES["file"])
    lines = page.locator(".transcript button")
    lines.first.press("ArrowDown")
    expect(lines.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    wait_until(page, "document.querySelector('[data-media]').currentTime === 3")
    expect(page.locator(".transcript li.now")).to_contain_text("second")


def test_keys_that_mean_something_else_do_not_move_the_player(reader):
    page = reader.open(PAGES["file"])
    expect(page.locator("[data-player][data-ready]")).to_be_attached(timeout=PATIENCE_MS)
    job = page.locator("details.job", has_text="tags")
    job.locator("summary").click()
    value = job.locator(".value details")
    value.locator("summary").click()
    value.locator("pre").press("ArrowRight")
    page.get_by_label("Zoom").press("ArrowRight")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate("document.querySelector('[data-media]').currentTime") == 0
    page.keyboard.press("ArrowRight")
    wait_until(page, "document.querySelector('[data-media]').currentTime === 5")


def test_everything_about_a_job_of_a_file_is_told(reader, catalogue):
    page = reader.open(f"file?uri={quote(catalogue.uri('broken.wav'), safe='')}")
    job = page.locator("details.job", has_text="tags")
    expect(job.get_by_text("the file is not liked").first).to_be_visible()
    expect(job.locator("pre")).to_contain_text("ValueError")
    page = reader.open(PAGES["file"])
    job = page.locator("details.job", has_text="tags")
    job.locator("summary").click()
    expect(job.locator(".value pre")).to_contain_text('"genre": "house"')


def test_times_are_in_the_readers_time_zone(browser, url, catalogue):
    shown = []
    for zone in ("Asia/Tokyo", "America/New_York"):
        context = browser.new_context(timezone_id=zone, locale="en-GB")
        page = Reader(context, url, catalogue).open("files")
        shown.append(page.locator("time").first.text_content())
        context.close()
    assert shown[0] != shown[1]
    assert not any("UTC" in one for one in shown)


def test_files_are_found_by_state_and_error(reader):
    page = reader.open("files")
    expect(page.locator("tbody tr")).to_have_count(4)
    page.get_by_label("State").select_option("failed")
    page.get_by_label("Error contains").fill("NOT LIKED")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="broken.wav").click()
    expect(page.locator("h1")).to_have_text("broken.wav")


def test_a_hostile_name_is_shown_as_it_is_and_does_nothing(reader):
    for path in ("", "files", PAGES["hostile"], "jobs/tags", "failures", "runs", "plan"):
        page = reader.open(path)
        expect(page.locator("h1")).to_be_visible()
        assert page.locator("img[src=x]").count() == 0
    page = reader.open(PAGES["hostile"])
    expect(page.locator("h1")).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.locator("h1")).to_contain_text("\\u202e")
    page.get_by_role("button", name="Play").click()
    wait_until(page, "document.querySelector('[data-media]').currentTime > 0.1")


def test_a_script_that_got_into_a_page_would_not_run(reader):
    page = reader.open("")
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">');"
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s)"
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in fault for fault in reader.faults)
    reader.faults.clear()


def test_a_plan_is_made_before_anything_is_computed(reader, catalogue):
    page = reader.open("plan")
    page.get_by_label("beats").check()
    page.get_by_role("button", name="Plan").click()
    expect(page.get_by_text("Nothing to compute")).to_be_visible()
    expect(page.locator("code").filter(has_text="segue backfill --job beats")).to_be_visible()


def test_an_open_page_shows_the_graph_as_it_changes(reader, catalogue):
    page = reader.open("")
    expect(page.locator('[data-node="tags"]')).to_be_visible()
    path = catalogue.folder / "jobs.yaml"
    try:
        path.write_text(GRAPH.replace("  tags:", "  genre:"))
        expect(page.locator('[data-node="genre"] [data-counts]')).to_have_text("4 missing")
        expect(page.locator('[data-node="tags"]')).to_have_count(0)
        path.write_text("jobs: [1]")
        expect(page.get_by_role("alert")).to_contain_text("The graph has changed and is not shown")
        expect(page.locator('[data-node="genre"]')).to_be_visible()
    finally:
        path.write_text(GRAPH)
    expect(page.locator('[data-node="tags"] [data-counts]')).to_have_text("3 done, 1 failed")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_job_of_another_namespace_leads_to_its_graph(browser, tmp_path):
    catalogue = Catalogue(tmp_path)
    (tmp_path / "jobs.yaml").unlink()
    for namespace, graph in TEAMS.items():
        (tmp_path / f"{namespace}.yaml").write_text(graph)
    catalogue.run("publish", "--graph", "platform.yaml")
    catalogue.run("lock", "--graph", "rhythm.yaml")
    graphs = ("platform.yaml", "rhythm.yaml")
    with catalogue.start("console", *graphs, "--no-browser") as process:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        reader = Reader(context, read_url(process), catalogue)
        page = reader.page
        page.get_by_role("link", name="rhythm", exact=True).click()
        expect(page.locator('[data-node="beats"]')).to_be_visible()
        expect(page.locator('[data-node="source"]')).to_have_count(0)
        page.get_by_role("link", name="platform/downsample").click()
        expect(page.locator("h1")).to_have_text("downsample")
        assert page.url.endswith("/platform/jobs/downsample")
        context.close()
        assert reader.faults == []
        assert process.terminate() == 0


def test_a_page_is_used_with_the_keyboard_alone(reader):
    page = reader.open("")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.locator(":focus").text_content() == "downsample":
            break
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("downsample")


def test_a_page_that_nobody_sees_keeps_no_connection(reader):
    asked: list[str] = []
    reader.page.on("request", lambda request: asked.append(request.url))
    page = reader.open("")
    expect(page.locator("[data-live]")).to_have_text("live")
    asked.clear()
    turn = (
        "hidden => { Object.defineProperty(document, 'hidden', "
        "{value: hidden, configurable: true}); "
        "document.dispatchEvent(new Event('visibilitychange')); }"
    )
    page.evaluate(turn, True)
    page.wait_for_timeout(300)
    assert asked == []
    page.evaluate(turn, False)
    page.wait_for_timeout(300)
    assert [one.rpartition("/")[2] for one in asked] == ["live"]


def test_an_open_page_says_when_the_ledger_cannot_be_counted(reader, catalogue):
    page = reader.open("")
    expect(page.locator("[data-live]")).to_have_text("live")
    ledger = catalogue.folder / ".segue" / "ledger.db"
    ledger.rename(f"{ledger}.away")
    expect(page.locator("[data-live]")).to_contain_text("not counted: the ledger")
    ledger.with_name("ledger.db.away").rename(ledger)
    expect(page.locator("[data-live]")).to_have_text("live")


def test_an_open_page_goes_on_when_the_console_is_started_again(browser, catalogue):
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    with catalogue.start("console", "--no-browser") as process:
        before = read_url(process)
        page = context.new_page()
        page.goto(before)
        expect(page.locator("[data-live]")).to_have_text("live")
        assert process.terminate() == 0
    expect(page.locator("[data-live]")).to_have_text("not connected; it is tried again")
    port = before.partition("/?")[0].rpartition(":")[2]
    with catalogue.start("console", "--no-browser", port=port) as process:
        after = read_url(process)
        # The page is refused: the token is a new one.
        expect(page.locator("[data-live]")).to_contain_text("open the address that it prints")
        context.new_page().goto(after)
        page.bring_to_front()
        expect(page.locator("[data-live]")).to_have_text("live")
        context.close()
        assert process.terminate() == 0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": 503, "content_type": "text/plain", "body": "<img src=x> away"}, "<img src=x>"),
        (None, "The console does not answer."),
    ],
)
def test_a_part_that_cannot_be_loaded_says_why(reader, answer, told):
    page = reader.page
    page.route("**/sample", lambda route: route.fulfill(**answer) if answer else route.abort())
    reader.open("jobs/tags")
    expect(page.get_by_role("alert")).to_contain_text(told)
    assert page.locator("img[src=x]").count() == 0
    reader.faults.clear()


def test_what_was_computed_is_drawn_where_there_is_no_waveform(reader):
    page = reader.page
    page.route("**/file/waveform*", lambda route: route.abort())
    reader.open(PAGES["file"])
    expect(page.locator("[data-player][data-ready]")).to_be_attached()
    expect(page.locator("[data-message]")).to_contain_text("There is no waveform")
    wait_until(page, "document.querySelector('[data-media]').duration > 7")
    segments = page.locator(".track", has_text="tags: segments").locator("canvas")
    segments.click(position={"x": 600, "y": 10})
    wait_until(page, "document.querySelector('[data-media]').currentTime > 2")
    reader.faults.clear()


def test_what_the_system_does_is_seen_as_it_happens(browser, tmp_path):
    """A file that arrives, and a request that is made and seen done, while ``segue up`` runs."""
    catalogue = Catalogue(tmp_path)
    arguments = ("up", "--console", "--allow-changes", "--no-catch-up")
    with catalogue.start(*arguments) as up:
        context = browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        reader = Reader(context, read_url(up), catalogue)
        page = reader.open("")
        counts = page.locator('[data-node="beats"] [data-counts]')
        expect(counts).to_have_text("4 done")
        write(click_track(100.0, 4.0), str(tmp_path / "music" / "late.wav"))
        expect(counts).to_have_text("5 done")
        expect(page.locator("[data-files]")).to_have_text("5")

        page = reader.open("files")
        page.get_by_label("Choose all").check()
        expect(page.get_by_role("button", name="Request results of 5 files")).to_be_visible()
        page.get_by_label("Choose all").uncheck()
        expect(page.get_by_role("button", name="Choose files")).to_be_disabled()
        page.get_by_label("Choose late.wav").check()
        page.get_by_role("button", name="Request results of 1 file").click()
        page.get_by_label("beats").check()
        page.get_by_label("also compute again").check()
        page.get_by_role("button", name="Show what that would compute").click()
        expect(page.locator("tbody tr", has_text="beats")).to_be_visible()
        page.get_by_role("button", name="Request", exact=True).click()
        expect(page.locator("h1")).to_contain_text("Request")
        expect(page.get_by_text("1 of 1 file finished")).to_be_visible()

        page = reader.open("failures")
        page.get_by_role("button", name=re.compile("Retry all .* failures of tags")).click()
        page.get_by_role("button", name="Retry 1 file").click()
        expect(page.locator("h1")).to_have_text("Retried")
        assert reader.faults == []

        page = reader.open("")
        (tmp_path / "jobs.yaml").write_text(GRAPH.replace("  tags:", "  genre:"))
        up.wait_for(lambda line: line.get("action") == "changed")  # it starts again, all of it
        genre = page.locator('[data-node="genre"] [data-counts]')
        expect(genre).to_have_text("5 missing", timeout=PATIENCE_MS)
        expect(page.locator("[data-live]")).to_have_text("live", timeout=PATIENCE_MS)
        context.close()
        assert up.terminate() == 0
