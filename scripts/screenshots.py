"""Pictures of a leaderboard page, or of the documentation.

    python scripts/screenshots.py PAGE.html OUT
    python scripts/screenshots.py site OUT

The first takes the page's first screen, a cell, samples, on a phone and in the dark. The second
takes README.md as GitHub shows it, and pages of the site that `make docs` built into a folder.
Needs the test requirements and a Chromium: on the PATH, or named by LM_EVAL_TRUST_CHROMIUM.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import markdown
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

WIDE, PHONE = (1280, 860), (360, 780)
ROOT = Path(__file__).resolve().parents[1]
#: Picture -> page of the site, and colour scheme.
SITE = {
    "site-home": ("index.html", "light"),
    "site-get-started": ("get-started.html", "light"),
    "site-reference": ("reference/files.html", "dark"),
}
#: What GitHub's sheet does to a README, in short.
LOOK = """
body { max-width: 830px; margin: 0 auto; padding: 32px; color: #1f2328;
  font: 16px/1.5 -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
h1, h2 { border-bottom: 1px solid #d1d9e0; padding-bottom: .3em; font-weight: 600; }
code { background: #818b981f; border-radius: 6px; padding: .2em .4em; font-size: 85%; }
pre { background: #f6f8fa; border-radius: 6px; padding: 16px; overflow: auto; }
pre code { background: none; padding: 0; }
table { border-collapse: collapse; display: block; overflow: auto; }
td, th { border: 1px solid #d1d9e0; padding: 6px 13px; }
tr:nth-child(even) td { background: #f6f8fa; }
img { max-width: 100%; } a { color: #0969da; text-decoration: none; }
"""


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
        if options.page.is_dir():
            documents(browser, options.page, options.out)
            return 0
        page = opened_board(browser, options.page, WIDE, "light")
        page.screenshot(path=options.out / "page.png")
        open_cell(page)
        page.screenshot(path=options.out / "page-cell.png")
        page.get_by_role("button", name="Read the samples").click()
        page.locator("#samples .sample").first.wait_for()
        page.screenshot(path=options.out / "page-samples.png")
        dark = opened_board(browser, options.page, WIDE, "dark")
        dark.screenshot(path=options.out / "page-dark.png")
        phone = opened_board(browser, options.page, PHONE, "light")
        phone.screenshot(path=options.out / "page-narrow.png")
        browser.close()
    return 0


def opened(browser: Browser, file: Path, size: tuple[int, int], scheme: str) -> Page:
    """Open a file in a window of this size."""
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(file.resolve().as_uri())
    return page


def opened_board(browser: Browser, file: Path, size: tuple[int, int], scheme: str) -> Page:
    """Open a leaderboard page and wait for its first row."""
    page = opened(browser, file, size, scheme)
    page.locator("table.board tbody tr").first.wait_for()
    return page


def open_cell(page: Page) -> None:
    """Open the first cell with a difference that is shown, in the middle of the window."""
    table = page.locator("table.board").first
    shown = table.locator("button.score:has(.mark.better), button.score:has(.mark.worse)")
    cell = (shown if shown.count() else table.locator("button.score")).first
    table.evaluate("e => e.closest('section').querySelector('.controls').scrollIntoView()")
    cell.click()


def documents(browser: Browser, site: Path, out: Path) -> None:
    """Photograph README.md, from top to bottom, and pages of the site."""
    with tempfile.TemporaryDirectory() as folder:
        readme = Path(folder) / "readme.html"
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        body = markdown.markdown(text, extensions=["tables", "fenced_code", "sane_lists"])
        head = f"<meta charset=utf-8><base href='{ROOT.as_uri()}/'><style>{LOOK}</style>"
        readme.write_text(head + body, encoding="utf-8")
        page = opened(browser, readme, (950, 860), "light")
        page.screenshot(path=out / "readme.png", full_page=True)
        few_colours(out / "readme.png")
    for name, (path, scheme) in SITE.items():
        page = opened(browser, site / path, WIDE, scheme)
        page.screenshot(path=out / f"{name}.png")
        few_colours(out / f"{name}.png")


def few_colours(picture: Path) -> None:
    """Write a picture with a palette of 64 colours, a third of its size."""
    with Image.open(picture) as image:
        image.convert("RGB").quantize(64).save(picture, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
