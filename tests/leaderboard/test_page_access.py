"""The page for everyone: axe-core, colours, touch, narrow windows, print, any script."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from support.axe import violations
from support.boards import planted_board, planted_row, planted_run, write_measurements
from support.browser import open_page

from lm_eval_trust.leaderboard.page import write_page

pytestmark = pytest.mark.slow

#: Right to left, an override that nothing closes, half of a surrogate pair, and markup.
ODD = "مرحبا \u202edesrever \ud800 </script><b>bold</b>"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything: a board, its samples, a sweep and checkpoints."""
    folder = tmp_path_factory.mktemp("page")
    rows = [
        planted_row(
            name,
            planted_run(folder / key, lambda *_, key=key: (f"{key} {ODD}", float(key == "b")), 30),
            model=ODD,
        )
        for key, name in {"a": "plain", "b": f"steered {ODD}"}.items()
    ]
    (folder / "sweep").mkdir()
    (folder / "sweep" / "sweep.csv").write_text(
        "vector,alpha,metric,value,change,low,high,perplexity,times\n"
        "v,0,acc,0.5,0,0,0,4,1\nv,1,acc,0.6,0.1,0,0.2,5,1.25\n"
    )
    measured = write_measurements(folder / "analysis")
    path = folder / "page.html"
    boards = [planted_board(rows, notes=("A note.",)), replace(planted_board(rows), reference=None)]
    write_page(path, boards, sweeps=[folder / "sweep"], analyses=[measured])
    return path


def draw_all(page: Page) -> None:
    for figure in page.locator("figure:has(.plot)").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()


def open_cell(page: Page) -> None:
    page.locator("table.board button.score").nth(4).click()


def test_the_first_screen_tells_what_was_found_before_any_table(
    browser: Browser, file: Path
) -> None:
    page = open_page(browser, file, width=1280).page
    story = page.locator(".story").first
    expect(story.locator(".compared")).to_contain_text("was compared with plain on 3 scores")
    # b is right on all thirty items and a on none; on one of the three lower is better.
    expect(story.locator(".findings .better, .findings .worse")).to_have_count(3)
    assert story.locator(".forest li").count() == 3
    expect(story.locator(".forest li").first).to_contain_text("+1.000 [")
    found, table = story.bounding_box(), page.locator("table").first.bounding_box()
    assert found is not None and table is not None
    assert found["y"] + found["height"] < 900 and found["y"] + found["height"] < table["y"]
    page.get_by_label("Chart of").first.select_option(label="ToxiGen")
    expect(story.locator(".forest .group")).to_contain_text("Lower is better")
    expect(story.locator(".forest li")).to_have_class("worse")
    page.context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1024), ("light", 360)])
def test_axe_finds_nothing_wrong(browser: Browser, file: Path, scheme: str, width: int) -> None:
    page = open_page(browser, file, width=width, color_scheme=scheme).page
    draw_all(page)
    assert violations(page) == []
    open_cell(page)
    expect(page.locator("#cell")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Read the samples").click()
    page.locator("#samples .sample").first.wait_for()
    assert violations(page) == []
    page.get_by_label("Go to item").fill("11")
    page.keyboard.press("Enter")
    page.locator("#samples [aria-current=true]").wait_for()
    assert violations(page) == []
    page.context.close()


def test_axe_would_find_something(browser: Browser, file: Path) -> None:
    page = open_page(browser, file).page
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert [each.split(":")[0] for each in violations(page)] == ["button-name"]
    page.context.close()


def test_the_chosen_colours_stay_and_paper_is_white(browser: Browser, file: Path) -> None:
    page = open_page(browser, file, color_scheme="light").page
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_label("Colours").select_option("dark")
    dark = page.evaluate(ground)
    assert dark != light
    draw_all(page)
    ink = "e => getComputedStyle(e).fill"
    assert page.locator("figure .xtick text").first.evaluate(ink) == "rgb(165, 175, 183)"
    page.reload()
    assert page.evaluate(ground) == dark
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(ground) == light
    assert page.locator("select, input, nav").locator("visible=true").count() == 0
    assert page.locator("table.board").first.is_visible()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(ground) == dark
    page.context.close()


def test_a_phone_reads_a_cell_and_its_samples_by_touch(browser: Browser, file: Path) -> None:
    page = open_page(browser, file, width=360, has_touch=True, is_mobile=True).page
    page.locator("table.board button.score").nth(4).tap()
    box = page.locator("#cell")
    found = box.bounding_box()
    assert found is not None and found["x"] >= 0 and found["x"] + found["width"] <= 360
    assert found["y"] + found["height"] == pytest.approx(900, abs=1)
    page.touchscreen.tap(180, 20)
    expect(box).to_be_hidden()
    page.locator("table.board button.score").nth(4).tap()
    page.get_by_role("button", name="Read the samples").tap()
    page.locator("#samples .sample").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.context.close()


def test_odd_text_stays_what_it_is(browser: Browser, file: Path) -> None:
    watched = open_page(browser, file)
    page = watched.page
    expect(page.locator(".compared .name").first).to_contain_text("steered مرحبا")
    open_cell(page)
    page.get_by_role("button", name="Read the samples").click()
    answers = page.locator("#samples .sample").first.locator(".answer pre")
    answers.first.wait_for()
    assert answers.first.text_content() == f"a {ODD}"
    assert page.locator("main b, #samples pre b").count() == 0
    assert page.locator("#samples pre").first.get_attribute("dir") == "auto"
    assert watched.errors == [] and watched.dialogs == []
    page.context.close()
