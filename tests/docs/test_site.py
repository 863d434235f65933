"""The site builds strictly: every page in the navigation, every link and anchor found, no network.

Links to other sites are looked at for their form only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("mkdocs", reason="the site needs `pip install 'lm-eval-trust[docs]'`")

ROOT = Path(__file__).resolve().parents[2]
#: Attributes that make a browser fetch something at once.
_FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}


class _Addresses(HTMLParser):
    """Collects what a page fetches, and where its links go."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in _FETCHED and values.get("rel") != "canonical":
            self.fetched.append(values.get(_FETCHED[tag]) or "")
        if tag == "a":
            self.linked.append(values.get("href") or "")


@pytest.mark.slow
def test_the_site_builds_strictly_and_is_whole(tmp_path: Path) -> None:
    # One test, so that parallel workers build it once.
    build(tmp_path)
    pages = {
        str(path.relative_to(tmp_path)): path.read_text(encoding="utf-8")
        for path in tmp_path.rglob("*.html")
    }
    check_nothing_is_fetched_from_elsewhere(tmp_path, pages)
    check_links_to_other_sites(pages)
    check_generated_parts(pages)
    check_search(tmp_path)
    check_formulas(pages)


def build(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def addresses(text: str) -> _Addresses:
    found = _Addresses()
    found.feed(text)
    return found


def check_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, str]) -> None:
    for name, text in pages.items():
        for address in filter(None, addresses(text).fetched):
            assert not urlsplit(address).netloc, f"{name} fetches {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def check_links_to_other_sites(pages: dict[str, str]) -> None:
    linked = [link for text in pages.values() for link in addresses(text).linked]
    elsewhere = [link for link in linked if ":" in link.split("/")[0]]
    assert any("arxiv.org" in link for link in elsewhere)
    for link in elsewhere:
        parts = urlsplit(link)
        assert parts.scheme == "https" and "." in parts.netloc and " " not in link, link


def check_generated_parts(pages: dict[str, str]) -> None:
    assert not any("&lt;!-- insert" in text or "<!-- insert" in text for text in pages.values())
    for page, words in {
        "reference/commands.html": ("lm-eval-trust vector build", "Exit codes"),
        "reference/tasks.html": ("trust_sst2_rate50", "acc_three_way", "trust_world_text_mini"),
        "reference/models.html": ("proxy_top_k", "projection_std", "allow_leak"),
        "api/analysis.html": ("lm_eval_trust.analysis.comparison.compare", "McNemar"),
    }.items():
        for word in words:
            assert word in pages[page], f"{word} is not in {page}"


def check_search(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    for word in ("non-inferiority", "lm-eval-trust sweep", "Could these items have shown it?"):
        assert word in index


def check_formulas(pages: dict[str, str]) -> None:
    assert pages["statistics.html"].count("<math") >= 10
    assert not any("```math" in text for text in pages.values())
