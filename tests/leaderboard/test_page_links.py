"""Links to samples: each leads to one sample, survives a reload, and is copied by a button."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from support.boards import TRUTH, planted_board, planted_row, planted_run
from support.browser import open_page

from lm_eval_trust.leaderboard.page import write_page

pytestmark = pytest.mark.slow

COUNT = 450
STEERED = "steered + v(a & b=c, α 2) #1 50 %"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows; the steered one is right on the first hundred items, the other on every second."""
    folder = tmp_path_factory.mktemp("page")
    right = {"plain": lambda item: item % 2 == 0, STEERED: lambda item: item < 100}
    rows = [
        planted_row(
            name,
            planted_run(
                folder / str(at),
                lambda _, item, name=name: (f"answer{item}", float(right[name](item))),
                COUNT,
            ),
        )
        for at, name in enumerate(right)
    ]
    path = folder / "page.html"
    write_page(path, [planted_board(rows)])
    return path


def opened(browser: Browser, file: Path, **fields: object) -> Page:
    page = open_page(browser, file).page
    link = {"row": STEERED, "score": TRUTH.key, "beside": "plain", **fields}
    page.goto(f"{file.resolve().as_uri()}#{urlencode(link)}")
    page.reload()
    return page


def address(page: Page) -> dict[str, str]:
    # The page itself knows at once; the driver hears of it later.
    fragment = urlsplit(page.evaluate("location.href")).fragment
    return {name: found[0] for name, found in parse_qs(fragment).items()}


def linked(page: Page) -> str:
    return page.locator("#samples [aria-current=true] h3").inner_text().split("\n")[0]


def status(page: Page) -> str:
    return page.locator("#samples [role=status]").inner_text()


def test_a_link_opens_its_sample_and_a_reload_does_so_again(browser: Browser, file: Path) -> None:
    page = opened(browser, file, item=321)
    for _ in range(2):
        page.locator("#samples [aria-current=true]").wait_for()
        assert linked(page) == "Item 321"
        assert status(page) == "321–330 of 450 shown, 450 in all"
        assert page.evaluate("document.activeElement.ariaCurrent") == "true"
        expect(page.locator("[aria-current=true] h4")).to_have_text(["plain", STEERED])
        page.reload()
    page.locator("#samples [aria-current=true]").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function("location.hash === ''")
    expect(page.locator("#samples")).to_be_hidden()
    page.context.close()


def test_filters_that_hide_the_sample_give_way(browser: Browser, file: Path) -> None:
    # Item 4 is right in both rows; 101 is worse; the phrase is in answer 7 alone.
    page = opened(browser, file, item=4, show="worse")
    page.locator("#samples [aria-current=true]").wait_for()
    assert linked(page) == "Item 4"
    assert page.get_by_label("Show").input_value() == "all"
    page.context.close()
    page = opened(browser, file, item=102, show="worse")
    page.locator("#samples [aria-current=true]").wait_for()
    assert (linked(page), page.get_by_label("Show").input_value()) == ("Item 102", "worse")
    page.context.close()
    page = opened(browser, file, item=8, find="answer7")
    page.locator("#samples [aria-current=true]").wait_for()
    assert (linked(page), page.get_by_label("Find text").input_value()) == ("Item 8", "")
    page.context.close()
    page = opened(browser, file, item=431, find="answer4")
    page.locator("#samples [aria-current=true]").wait_for()
    assert (linked(page), page.get_by_label("Find text").input_value()) == ("Item 431", "answer4")
    page.context.close()


def test_what_is_shown_survives_a_reload(browser: Browser, file: Path) -> None:
    page = opened(browser, file)
    page.locator("#samples .sample").first.wait_for()
    page.get_by_label("Show").select_option("worse")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#samples h3").first).to_contain_text("Item 120")
    assert address(page) == {
        "row": STEERED,
        "score": TRUTH.key,
        "beside": "plain",
        "show": "worse",
        "item": "120",
    }
    page.reload()
    expect(page.locator("#samples h3").first).to_contain_text("Item 120")
    assert status(page).startswith("11–20 of 175 shown")
    page.context.close()


def test_the_button_copies_a_link_to_its_sample(browser: Browser, file: Path) -> None:
    page = opened(browser, file, item=20, show="better")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#samples [aria-current=true]").wait_for()
    page.get_by_role("button", name="Copy link to item 21", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_have_count(1)
    copied = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(copied)
    page.locator("#samples [aria-current=true]").wait_for()
    assert linked(page) == "Item 21"
    page.context.close()


def test_a_link_that_leads_nowhere_says_so(browser: Browser, file: Path) -> None:
    page = opened(browser, file, row="nobody")
    expect(page.locator("#link-message")).to_contain_text("samples of nobody in planted_truth")
    assert not page.locator("#samples").is_visible()
    page.goto(f"{page.url.split('#')[0]}#{urlencode({'row': STEERED, 'score': TRUTH.key})}")
    page.locator("#samples .sample").first.wait_for()
    expect(page.locator("#link-message")).to_be_empty()
    page.context.close()
    page = opened(browser, file, item=450)
    page.locator("#samples .sample").first.wait_for()
    assert status(page).endswith("450 in all. There is no item 450.")
    page.context.close()
