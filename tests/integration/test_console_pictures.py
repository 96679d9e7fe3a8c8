"""The pictures of docs/console.md are there, and can be taken again."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image

from segue_support.browser import open_browser
from segue_support.console_pictures import FOLDER, PICTURES, WIDTH, serve_music, take_picture
from segue_support.paths import ROOT

pytestmark = pytest.mark.xdist_group("console_pictures")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    try:
        with open_browser() as browser, serve_music(folder) as url:
            yield {name: take_picture(browser, url, name, folder) for name in PICTURES}
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_a_page(pictures, name):
    with Image.open(io.BytesIO(pictures[name])) as image:
        assert image.size == (WIDTH, PICTURES[name].height)
        colours = image.convert("RGB").getcolors(maxcolors=256)
    assert len(colours) > 50
    assert max(count for count, _ in colours) < 0.9 * WIDTH * PICTURES[name].height


def test_the_documentation_shows_each():
    page = (ROOT / "docs/console.md").read_text()
    assert set(re.findall(r"!\[.+?\]\(console/(\w+)\.png\)", page)) == PICTURES.keys()
    assert {path.stem for path in FOLDER.glob("*.png")} == PICTURES.keys()
    assert "docs/console/file.png" in (ROOT / "README.md").read_text()
