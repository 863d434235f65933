"""The page in a headless Chromium: what is seen, reached by keyboard, and never run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from support.boards import (
    SUITE,
    TRUTH,
    planted_board,
    planted_row,
    planted_run,
    reported_row,
    write_measurements,
)
from support.browser import Watched, open_page

from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.leaderboard.board import Board, Row, Score
from lm_eval_trust.leaderboard.page import write_page

# All of them together take half a minute; test_page_payload.py tests what is written, in seconds.
pytestmark = pytest.mark.slow

HOSTILE = (
    '<img src=x onerror="alert(1)"></script><script>alert(2)</script><a href="javascript:alert(3)">'
)
COUNT = 450
CHARTS = "figure:has(.plot)"
#: The reference is right on every second item, the steered row on the first hundred only.
RIGHT = {"plain": lambda item: item % 2 == 0, "steered": lambda item: item < 100}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two boards, a sweep and checkpoints, with hostile names and answers."""
    folder = tmp_path_factory.mktemp("page")

    def answer(name: str) -> object:
        return lambda task, item: (
            f"{HOSTILE} {'same' if item < 400 else name} needle{item}",
            float(RIGHT[name](item)),
        )

    rows = [
        planted_row(
            name, planted_run(folder / name, answer(name), COUNT), model=f"{name} {HOSTILE}"
        )  # type: ignore[arg-type]
        for name in RIGHT
    ]
    first = planted_board(
        [*rows, reported_row(f"paper {HOSTILE}")],
        front=("steered",),
        kept_apart=("other: task version 2, here 1",),
        notes=(HOSTILE,),
    )
    sweep = folder / "sweep"
    sweep.mkdir()
    (sweep / "sweep.csv").write_text(
        "vector,alpha,metric,value,change,low,high,perplexity,times\n"
        f"v{HOSTILE.replace(chr(34), '')},0,acc,0.5,0,0,0,4,1\nv,1,acc,0.6,0.1,0,0.2,5,1.25\n"
    )
    longer = replace(rows[1], name=" + ".join(["steered by a vector of many words"] * 5))
    path = folder / "page.html"
    write_page(
        path,
        [first, planted_board([longer, rows[0]], confidence=0.975)],
        sweeps=[sweep],
        analyses=[write_measurements(folder / "analysis")],
        title=f"Planted {HOSTILE}",
    )
    return path


@pytest.fixture(scope="module")
def watched(browser: Browser, file: Path) -> Iterator[Watched]:
    found = open_page(browser, file)
    yield found
    found.page.context.close()


@pytest.fixture
def page(watched: Watched) -> Page:
    """The page as it is when it opens without a link to samples."""
    watched.page.evaluate("history.replaceState(null, '', location.href.split('#')[0])")
    watched.page.reload()
    return watched.page


def names(page: Page) -> list[str]:
    return page.locator("table.board").first.locator("tbody th button").all_inner_texts()


def open_samples(page: Page, row: str = "steered", column: int = 1) -> None:
    line = page.locator("table.board").first.locator(
        "tr", has=page.get_by_role("button", name=row, exact=True)
    )
    line.locator("button").nth(column).click()
    page.get_by_role("button", name="Read the samples").click()
    page.locator("#samples .sample").first.wait_for()


def expect_first_item(page: Page, text: str) -> None:
    heading = page.locator("#samples .sample h3").first
    expect(heading).to_have_text(text, use_inner_text=True)


def see_all(page: Page) -> None:
    for figure in page.locator(CHARTS).all():
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()


def test_nothing_is_loaded_and_nothing_in_the_data_runs(page: Page, watched: Watched) -> None:
    see_all(page)
    open_samples(page)
    page.locator("#samples .sample pre", has_text="onerror").first.wait_for()
    page.keyboard.press("Escape")
    assert page.locator("main img, main a[href^='javascript'], .plot a").count() == 0
    assert page.get_by_role("heading", level=1).inner_text() == f"Planted {HOSTILE}"
    assert watched.dialogs == [] and watched.errors == []
    assert {url.split(":")[0] for url in watched.requests} <= {"file", "blob", "data"}
    assert page.locator(CHARTS).count() == 2 * 2 + 1 + 2


def test_injected_markup_could_not_run_either(page: Page, watched: Watched) -> None:
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"alert(9)\">')"
    )
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'alert(8)'}))"
    )
    page.wait_for_timeout(100)
    assert watched.dialogs == []
    assert any("Content Security Policy" in error for error in watched.errors)
    watched.errors.clear()


@pytest.mark.parametrize("width", [360, 1024, 1920])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    see_all(page)
    for each in page.locator("details").all():
        each.evaluate("element => element.open = true")
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= width
    open_samples(page)
    assert page.evaluate(wide) <= width
    inside = page.locator("#samples").evaluate(
        "d => [d.scrollWidth - d.clientWidth, d.getBoundingClientRect().right]"
    )
    assert inside[0] <= 0 and inside[1] <= width
    page.set_viewport_size({"width": 1024, "height": 900})


def test_a_cell_is_one_line_and_has_the_rest_behind_it(page: Page) -> None:
    cell = page.locator("table.board").first.locator("tbody tr").nth(1).locator("button").nth(1)
    assert " ".join(cell.inner_text().split()) == "0.222 ± 0.050▼ , shown worse"
    assert cell.bounding_box()["height"] < 40  # type: ignore[index]
    box = page.locator("#cell")
    assert not box.is_visible()
    cell.click()
    # 100 of 450 against 225 of 450; right in both: 50.
    expect(box).to_contain_text("▼ −0.278 shown worse, p < 0.001 after correction")
    expect(box).to_contain_text("McNemar, 450 shared items")
    expect(box.locator("h3")).to_have_text("steered: Truth*Info")
    page.keyboard.press("Escape")
    assert not box.is_visible()
    assert cell.evaluate("e => e === document.activeElement")
    expect(cell).to_have_attribute("aria-expanded", "false")
    page.get_by_label("In each cell").first.select_option("interval")
    expect(cell).to_contain_text("−0.278 [−0.3")
    page.get_by_label("Compare with").first.select_option("")
    expect(cell).to_have_text("0.222")


def test_the_table_marks_the_best_and_what_a_paper_reports(page: Page) -> None:
    table = page.locator("table.board").first
    assert page.get_by_text("other: task version 2, here 1").is_visible()
    assert table.locator(".tag", has_text="reported").count() == 1
    assert table.locator("tbody tr").nth(2).locator("strong, u").count() == 0
    assert table.locator("tbody tr").nth(0).locator("strong").count() > 0
    expect(page.locator(".story").nth(1)).to_contain_text("97.5 % interval by itself")


def test_rows_are_sorted_filtered_and_columns_chosen(page: Page) -> None:
    reported = f"paper {HOSTILE}"
    table = page.locator("table.board").first
    head = table.get_by_role("columnheader", name="Truth*Info")
    assert names(page) == ["plain", "steered", reported]
    head.get_by_role("button").click()
    assert (head.get_attribute("aria-sort"), names(page)) == (
        "descending",
        ["plain", "steered", reported],
    )
    head.get_by_role("button").click()
    assert (head.get_attribute("aria-sort"), names(page)) == (
        "ascending",
        ["steered", "plain", reported],
    )
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "none"
    page.get_by_label("Find rows").first.fill("STEERED onerror")
    assert names(page) == ["steered"]
    page.get_by_label("Find rows").first.fill("")
    page.get_by_label("Reported rows").first.uncheck()
    assert names(page) == ["plain", "steered"]
    page.locator("summary", has_text="Columns").first.click()
    page.get_by_role("checkbox", name="ToxiGen").first.uncheck()
    assert table.get_by_role("columnheader", name="ToxiGen").count() == 0


def test_samples_stand_side_by_side_and_are_filtered_paged_and_searched(page: Page) -> None:
    open_samples(page)
    card = page.locator("#samples .sample").first
    assert card.locator("h4").all_inner_texts() == ["plain", "steered"]
    assert card.locator("pre.prompt").inner_text() == "Question 0?"
    assert card.locator("dd").all_inner_texts() == ["1", "1"]
    page.get_by_role("button", name="Last").click()
    expect(page.locator("#samples .sample h3").last).to_contain_text(f"Item {COUNT - 1}")
    show = page.get_by_label("Show")
    show.select_option("changed")
    expect(page.locator("#samples .sample h3").first).to_contain_text("Item 400")
    show.select_option("worse")
    expect_first_item(page, "Item 100\n▼ worse")
    show.select_option("better")
    expect_first_item(page, "Item 1\n▲ better")
    expect(page.locator("#samples [role=status]")).to_contain_text("of 50 shown, 450 in all")
    show.select_option("all")
    page.get_by_label("Find text").fill("NEEDLE444")
    page.locator("#samples .sample", has_text="Item 444").wait_for()
    expect(page.locator("#samples .sample")).to_have_count(1)
    page.get_by_label("Find text").fill("nowhere")
    page.get_by_text("No samples.").wait_for()


def test_a_group_s_score_leads_to_the_samples_of_its_tasks(page: Page) -> None:
    open_samples(page, column=4)
    task = page.get_by_label("Task")
    assert task.locator("option").all_inner_texts() == ["planted_truth", "planted_toxic"]
    assert page.locator("#samples-title").inner_text() == f"steered: {SUITE.title}"
    task.select_option("planted_toxic")
    expect_first_item(page, "Item 0")
    page.get_by_label("Next to").select_option("")
    expect(page.locator("#samples .sample").first.locator("h4")).to_have_text(["steered"])


def test_runs_on_the_same_data_stand_side_by_side(browser: Browser, tmp_path: Path) -> None:
    def row(name: str, seeds: list[int]) -> Row:
        runs = []
        for seed in seeds:
            text = f"{name} on data {seed}"
            run = planted_run(tmp_path / text, lambda *_, text=text: (text, 1.0), 2, [TRUTH])
            metadata = {"data_fingerprint": f"d{seed}", "data_seed": seed}
            configs = {TRUTH.task: {"metadata": metadata}}
            runs.append(replace(run, results=run.results | {"configs": configs}))
        return Row(name, {TRUTH.key: Score(1.0, None, 2)}, tuple(runs), {})

    path = tmp_path / "page.html"
    write_page(path, [Board((TRUTH,), (row("plain", [1, 0]), row("steered", [0, 1])), (), "plain")])
    page = open_page(browser, path).page
    open_samples(page)
    answers = page.locator("#samples .sample").first.locator(".answer pre")
    expect(answers).to_have_text(["plain on data 0", "steered on data 0"])
    page.get_by_label("Run").select_option("1")
    expect(answers).to_have_text(["plain on data 1", "steered on data 1"])
    page.context.close()


def test_scores_without_the_judges_errors_stand_beside_the_raw_ones(
    browser: Browser, tmp_path: Path
) -> None:
    runs = {name: planted_run(tmp_path / name, lambda *_: ("so", 1.0)) for name in "ab"}
    rows = [planted_row(name, run) for name, run in runs.items()]
    corrected = Interval(0.625, 0.5, 0.75)
    second = replace(rows[1].scores[TRUTH.key], corrected=corrected)
    board = planted_board([rows[0], replace(rows[1], scores={**rows[1].scores, TRUTH.key: second})])
    change = Interval(0.25, 0.125, 0.375)
    pairs = tuple(
        replace(pair, corrected=change) if pair.column == TRUTH.key else pair
        for pair in board.pairs
    )
    path = tmp_path / "page.html"
    write_page(path, [replace(board, pairs=pairs)])
    page = open_page(browser, path).page
    cells = page.locator("table.board").first.locator("tbody tr")
    cells.nth(1).locator("button").nth(1).click()
    box = page.locator("#cell")
    expect(box).to_contain_text("errors0.625 [0.500, 0.750]")
    expect(box).to_contain_text("errors+0.250 [+0.125, +0.375]")
    page.keyboard.press("Escape")
    cells.nth(0).locator("button").nth(1).click()
    expect(box).not_to_contain_text("errors")
    page.keyboard.press("Escape")
    page.get_by_label("Compare with").first.select_option("b")
    cells.nth(0).locator("button").nth(1).click()
    expect(box).to_contain_text("errors\u22120.250 [\u22120.375, \u22120.125]")
    page.context.close()


def test_a_score_without_a_standard_error_shows_its_interval(
    browser: Browser, tmp_path: Path
) -> None:
    runs = {name: planted_run(tmp_path / name, lambda *_: ("so", 1.0)) for name in "ab"}
    row, other = (planted_row(name, run) for name, run in runs.items())
    score = replace(row.scores[TRUTH.key], stderr=None, interval=Interval(0.5, 0.25, 0.75))
    board = planted_board([replace(row, scores={**row.scores, TRUTH.key: score}), other])
    path = tmp_path / "page.html"
    write_page(path, [board])
    page = open_page(browser, path).page
    cell = page.locator("table.board").first.locator("tbody tr").first.locator("button").nth(1)
    expect(cell).to_contain_text("[0.250, 0.750]")
    cell.click()
    expect(page.locator("#cell")).to_contain_text("95 % interval of the score[0.250, 0.750]")
    page.context.close()


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.labels[0].textContent").startswith("Chart of")
    page.locator("table.board").first.locator("thead button").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Read the samples"
    page.keyboard.press("Enter")
    page.locator("#samples .sample").first.wait_for()
    page.locator("#samples ol").focus()
    page.keyboard.press("ArrowRight")
    expect_first_item(page, "Item 10")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.classList.contains('score')")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert page.locator("details.provenance[open] dd").first.inner_text() == f"steered {HOSTILE}"


def test_every_control_and_region_has_a_name(page: Page) -> None:
    kinds = "button, input, select, [role=region], [role=grid], [role=img]"
    named = "e => e.textContent.trim() || e.ariaLabel || e.labels?.length"
    names_of = f"found => found.map({named})"
    found = page.locator(kinds).evaluate_all(names_of)
    assert len(found) > 30 and all(found)
    assert page.get_by_role("main").count() == 1 and page.get_by_role("banner").count() == 1
    assert page.get_by_role("navigation", name="Sections").get_by_role("link").count() == 4
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    open_samples(page)
    ratios = page.evaluate(_CONTRASTS)
    page.emulate_media(color_scheme="light")
    assert len(ratios) > 100
    assert min(ratios)[0] >= 4.5, min(ratios)


def test_charts_follow_the_colour_scheme_and_their_controls(page: Page) -> None:
    see_all(page)
    ink = page.locator("figure .xtick text").first.evaluate("e => getComputedStyle(e).fill")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    assert page.locator("figure .xtick text").first.evaluate("e => getComputedStyle(e).fill") != ink
    page.emulate_media(color_scheme="light")
    heat = page.locator("figure", has_text="Blocks and checkpoints")
    heat.locator("summary").click()
    before = heat.locator("tbody td").first.inner_text()
    assert before == "0.500"
    assert heat.locator("tbody tr").count() == 3
    radar = page.locator("figure", has_text="Abilities").first
    assert radar.locator(".legendtext").count() == 3
    page.locator("summary", has_text="Rows in the chart").first.click()
    page.locator(".choices").nth(1).get_by_label("plain").uncheck()
    page.wait_for_timeout(200)
    assert radar.locator(".legendtext").count() == 2


def test_motion_is_left_out_where_it_is_not_wanted(page: Page) -> None:
    smooth = "getComputedStyle(document.documentElement).scrollBehavior"
    assert page.evaluate(smooth) == "smooth"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(smooth) == "auto"
    page.emulate_media(reduced_motion="no-preference")


def test_a_hundred_thousand_samples_are_paged_filtered_and_searched(
    browser: Browser, tmp_path: Path
) -> None:
    count = 50_000
    rows = []
    for name in ("plain", "steered"):

        def answer(task: str, item: int, name: str = name) -> tuple[str, float]:
            changed = name == "steered" and item % 1000 == 999
            return (f"answer {'moved' if changed else ''} to {item}", float(not changed))

        run = planted_run(tmp_path / name, answer, count, [TRUTH])
        rows.append(Row(name, {TRUTH.key: Score(0.9, 0.01, count)}, (run,), {}))
    path = tmp_path / "page.html"
    write_page(path, [Board((TRUTH,), tuple(rows), (), "plain")])
    assert path.stat().st_size < 10_000_000
    page = open_page(browser, path).page
    open_samples(page)
    page.get_by_role("button", name="Last").click()
    page.locator("#samples .sample", has_text="Item 49999").wait_for()
    page.get_by_label("Show").select_option("worse")
    expect(page.locator("#samples h3")).to_have_text(
        [f"Item {thousand}999▼ worse" for thousand in ["", *range(1, 10)]]
    )
    status = page.locator("#samples [role=status]")
    assert status.inner_text() == "1–10 of 50 shown, 50,000 in all"
    page.get_by_label("Show").select_option("all")
    page.get_by_label("Find text").fill("to 4999")
    page.get_by_label("Find text").fill("question 49998?")
    page.locator("#samples .sample", has_text="Item 49998").wait_for()
    expect(status).to_have_text("1–1 of 1 shown, 50,000 in all")
    page.context.close()


#: [contrast, text] of every element that holds text, over the nearest opaque background, by the
#: formula of WCAG 2.1. A canvas paints each colour, so that any CSS notation counts.
_CONTRASTS = """() => {
  const pen = Object.assign(document.createElement('canvas'), {width: 1, height: 1})
    .getContext('2d', {willReadFrequently: true});
  const paint = (colours) => {
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => rgb.map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const backgrounds = (element) => {
    const found = [];
    for (let e = element; e; e = e.parentElement) {
      found.unshift(getComputedStyle(e).backgroundColor);
    }
    return found;
  };
  return [...document.querySelectorAll('body *')]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .filter((e) => e.checkVisibility() && !e.matches(':disabled'))
    .filter((e) => !e.closest('script, .plot, .hidden, .skip'))
    .map((e) => {
      const below = backgrounds(e);
      const [text, ground] = [[...below, getComputedStyle(e).color], below]
        .map((colours) => luminance(paint(colours)));
      return [(Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05), e.textContent];
    });
}"""
