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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    return {
        str(path.relative_to(site)): path.read_text(encoding="utf-8")
        for path in site.rglob("*.html")
    }


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, str]) -> None:
    for name, text in pages.items():
        found = _Addresses()
        found.feed(text)
        for address in filter(None, found.fetched):
            assert not urlsplit(address).netloc, f"{name} fetches {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_links_to_other_sites_are_well_formed(pages: dict[str, str]) -> None:
    links = []
    for text in pages.values():
        found = _Addresses()
        found.feed(text)
        links += [link for link in found.linked if ":" in link.split("/")[0]]
    assert any("arxiv.org" in link for link in links)
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "https" and "." in parts.netloc and " " not in link, link


def test_generated_parts_are_there(pages: dict[str, str]) -> None:
    assert not any("&lt;!-- insert" in text or "<!-- insert" in text for text in pages.values())
    for page, words in {
        "reference/commands.html": ("lm-eval-trust vector build", "Exit codes"),
        "reference/tasks.html": ("trust_sst2_rate50", "acc_three_way", "trust_world_text_mini"),
        "reference/models.html": ("proxy_top_k", "projection_std", "allow_leak"),
        "api/analysis.html": ("lm_eval_trust.analysis.comparison.compare", "McNemar"),
    }.items():
        for word in words:
            assert word in pages[page], f"{word} is not in {page}"


def test_the_search_index_holds_the_pages(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    for word in ("non-inferiority", "lm-eval-trust sweep", "Could these items have shown it?"):
        assert word in index


def test_formulas_are_mathml(pages: dict[str, str]) -> None:
    assert pages["statistics.html"].count("<math") >= 10
    assert not any("```math" in text for text in pages.values())
