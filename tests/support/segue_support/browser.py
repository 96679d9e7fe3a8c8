"""The browser in which the console is tested: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

MISSING = "Chromium is missing: apt install chromium"


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium, and close it at the end.

    Its sandbox needs rights that a container has not; the pages are this project's own.

    Raises
    ------
    FileNotFoundError
        If the system has no Chromium.
    """
    path = shutil.which("chromium")
    if path is None:
        raise FileNotFoundError(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        yield browser
        browser.close()
