"""Screenshots of a leaderboard page at three widths, light and dark, and of an open drill-down.

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

WIDTHS = (360, 1024, 1920)
SCHEMES = ("light", "dark")


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
        for width in WIDTHS:
            for scheme in SCHEMES:
                whole_page(browser, options.page, width, scheme, options.out)
        browser.close()
    return 0


def whole_page(browser: Browser, file: Path, width: int, scheme: str, out: Path) -> None:
    """Photograph the page from top to bottom, and its drill-down as it fills the window."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(file.resolve().as_uri())
    draw_charts(page)
    page.screenshot(path=out / f"page-{width}-{scheme}.png", full_page=True)
    score = page.locator("button.score:not(:disabled)").last
    if score.count():
        score.click()
        page.locator("#samples .sample").first.wait_for()
        page.screenshot(path=out / f"samples-{width}-{scheme}.png")
    context.close()


def draw_charts(page: Page) -> None:
    """Bring every chart into view once, as they are drawn when they are seen."""
    for figure in page.locator("figure").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()
    page.evaluate("window.scrollTo(0, 0)")


if __name__ == "__main__":
    sys.exit(main())
