"""axe-core on a page: what a script can tell of why people with disabilities cannot use it."""

from __future__ import annotations

from importlib.resources import files

import pytest
from playwright.sync_api import Page

_RUN = "axe.run(document, {resultTypes: ['violations']})"


def violations(page: Page) -> list[str]:
    """Return a line for each rule that is violated, with its first elements."""
    package = pytest.importorskip("axe_playwright_python", reason="needs the `test` extra")
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate((files(package) / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate(_RUN)["violations"]
    return [f"{each['id']}: {[node['html'][:120] for node in each['nodes'][:3]]}" for each in found]
