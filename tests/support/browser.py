"""A headless Chromium for tests of the page, and pages of planted boards to open in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

VARIABLE = "LM_EVAL_TRUST_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium() -> str | None:
    """Return the browser's path: the variable's, else the first one on the PATH."""
    given = os.environ.get(VARIABLE)
    return given or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a headless browser; without one, skip."""
    path = find_chromium()
    if path is None:
        pytest.skip(f"there is no Chromium; run `make browser` or set {VARIABLE}")
    with sync_playwright() as driver:
        # Chromium refuses to run as root with its sandbox, which containers need.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


class Watched:
    """A page opened from disk, with what it asked for and what went wrong in it.

    Attributes:
        page: The page.
        errors: Uncaught errors and refusals on its console.
        requests: Addresses of all that it loaded.
        dialogs: Messages of alerts: scripts that should not have run.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", self._dialog)

    def _console(self, message: object) -> None:
        if message.type == "error":  # type: ignore[attr-defined]
            self.errors.append(message.text)  # type: ignore[attr-defined]

    def _dialog(self, dialog: object) -> None:
        self.dialogs.append(dialog.message)  # type: ignore[attr-defined]
        dialog.dismiss()  # type: ignore[attr-defined]


def open_page(browser: Browser, path: Path, *, width: int = 1024, **context: object) -> Watched:
    """Open a file in a window of its own."""
    window = browser.new_context(viewport={"width": width, "height": 900}, **context)  # type: ignore[arg-type]
    window.set_default_timeout(10_000)
    watched = Watched(window.new_page())
    watched.page.goto(path.resolve().as_uri())
    return watched
