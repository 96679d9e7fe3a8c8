"""Takes the pictures of docs/console.md from a console that shows the music of ``segue demo``.

python -m segue_support.console_pictures --draw   # and write docs/console/*.png

Each is what a reader sees who opens that page; the folder with the music is removed afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser

from segue_cli.demo_catalogue import make_catalogue
from segue_support.browser import open_browser
from segue_support.paths import ROOT
from segue_support.processes import Process

FOLDER = ROOT / "docs/console"
SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
SONG = "night bus/01 Terminal.ogg"
SOME_FAILED = 3  # three files of the music are broken
PATIENCE_MS = 60_000
WIDTH = 1200
# The folder is a reader's own.
RENAME = """folder => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    texts.currentNode.data = texts.currentNode.data.replaceAll(folder, "/home/you");
  }
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A page, and what is there once it is complete."""

    page: str
    shows: str  # a selector
    height: int
    scheme: Literal["light", "dark"] = "light"


PICTURES = {
    "catalogue": Picture(page="", shows=".graph.drawn", height=640),
    "file": Picture(
        page="file?uri={song}", shows="[data-player][data-ready] .track canvas", height=940
    ),
    "job": Picture(page="jobs/loudness", shows="text=What it writes", height=900, scheme="dark"),
}


@contextlib.contextmanager
def serve_music(folder: Path) -> Iterator[str]:
    """Compute the shipped features of music in a folder, and yield the address of a console."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    make_catalogue(str(folder / "Music"), duration_s=30.0)
    done = subprocess.run(
        [SEGUE, "backfill", "--all", "--catalogue", "Music"],
        check=False, cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != SOME_FAILED:
        raise RuntimeError(done.stdout + done.stderr)
    command = [SEGUE, "console", "--catalogue", "Music", "--port", "0", "--no-browser", "--json"]
    with Process(command, cwd=str(folder), environ=environment) as process:
        yield str(process.wait_for(lambda line: "url" in line)["url"])


def take_picture(browser: Browser, url: str, name: str, folder: Path) -> bytes:
    """Take one picture: a PNG of 256 colours, 1,200 pixels wide."""
    picture = PICTURES[name]
    context = browser.new_context(
        viewport={"width": WIDTH, "height": picture.height},
        color_scheme=picture.scheme,
        timezone_id="Europe/Stockholm",
    )
    song = quote(f"file://{folder}/Music/{SONG}", safe="")
    page = context.new_page()
    page.goto(url)
    page.goto(f"{url.partition('/?')[0]}/default/{picture.page.format(song=song)}")
    page.locator(picture.shows).first.wait_for(timeout=PATIENCE_MS)
    page.wait_for_timeout(1_000)  # what is drawn at the next chance
    page.evaluate(RENAME, str(folder))
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    small = io.BytesIO()
    taken.quantize(256, kmeans=1).save(small, "PNG", optimize=True)
    return small.getvalue()


def main() -> None:
    """Take the pictures; with ``--draw``, write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", action="store_true", help="write docs/console/*.png")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, open_browser() as browser:
        folder = Path(name)
        with serve_music(folder) as url:
            for shown in PICTURES:
                taken = take_picture(browser, url, shown, folder)
                print(f"{shown}: {len(taken) / 1e3:.0f} kB")
                if options.draw:
                    FOLDER.mkdir(exist_ok=True)
                    (FOLDER / f"{shown}.png").write_bytes(taken)


if __name__ == "__main__":
    main()
