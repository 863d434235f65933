"""Pictures of a leaderboard page: the first screen, a cell, samples, on a phone and in the dark.

    python scripts/screenshots.py PAGE.html OUT

Needs the test requirements and a Chromium: on the PATH, or named by LM_EVAL_TRUST_CHROMIUM.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

WIDE, PHONE = (1280, 860), (360, 780)


def main() -> int:
    """Open the page and photograph it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = os.environ.get("LM_EVAL_TRUST_CHROMIUM") or shutil.which("chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        page = opened(browser, options.page, WIDE, "light")
        page.screenshot(path=options.out / "page.png")
        open_cell(page)
        page.screenshot(path=options.out / "page-cell.png")
        page.get_by_role("button", name="Read the samples").click()
        page.locator("#samples .sample").first.wait_for()
        page.screenshot(path=options.out / "page-samples.png")
        opened(browser, options.page, WIDE, "dark").screenshot(path=options.out / "page-dark.png")
        phone = opened(browser, options.page, PHONE, "light")
        phone.screenshot(path=options.out / "page-narrow.png")
        browser.close()
    return 0


def opened(browser: Browser, file: Path, size: tuple[int, int], scheme: str) -> Page:
    """Open the page in a window of this size."""
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(file.resolve().as_uri())
    page.locator("table.board tbody tr").first.wait_for()
    return page


def open_cell(page: Page) -> None:
    """Open the first cell with a difference that is shown, in the middle of the window."""
    table = page.locator("table.board").first
    shown = table.locator("button.score:has(.mark.better), button.score:has(.mark.worse)")
    cell = (shown if shown.count() else table.locator("button.score")).first
    table.evaluate("e => e.closest('section').querySelector('.controls').scrollIntoView()")
    cell.click()


if __name__ == "__main__":
    sys.exit(main())
