"""How fast the page is with 50,000 samples: first row, memory, file size, and each interaction.

Writes a folder of results: two runs of a generated task with 50,000 samples each, as the harness
saves them. Builds the board and the page as `lm-eval-trust leaderboard` does, opens the page in a
headless Chromium, and prints the time until the first row of the table and until the first sample
of a link are on the screen, the JavaScript heap, and the time from each action to its result.

    python benchmarks/page.py [--samples 50000]

Needs the test requirements and a Chromium: on the PATH, or named by LM_EVAL_TRUST_CHROMIUM.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, sync_playwright

from lm_eval_trust.core.saved_runs import write_run
from lm_eval_trust.leaderboard.build import build_boards
from lm_eval_trust.leaderboard.items import Samples
from lm_eval_trust.leaderboard.page import write_page
from lm_eval_trust.leaderboard.reading import read_runs

TASK, METRIC = "generated", "acc"
WORDS = ("moon", "river", "copper", "lantern", "willow", "harbour", "seldom", "quiet", "amber")
LIMIT = 200.0

#: Acts, waits until a condition holds and is drawn, and returns the milliseconds.
TIMED = """async ([act, done]) => {
  const drawn = () => new Promise((r) => requestAnimationFrame(() => setTimeout(r, 0)));
  const [run, holds] = [new Function(act), new Function(`return ${done}`)];
  const start = performance.now();
  run();
  do {
    await drawn();
    if (performance.now() - start > 120000) throw new Error(`never: ${done}`);
  } while (!holds());
  return performance.now() - start;
}"""
#: Notes when the first row, and the first sample, are drawn; runs before the page's own script.
WATCH = """(() => {
  window.seen = {};
  const look = () => {
    const now = performance.now();
    const row = document.querySelector('table.board tbody tr');
    const sample = document.querySelector('#samples .sample');
    if (row) window.seen.row ??= now;
    if (sample) window.seen.sample ??= now;
    requestAnimationFrame(look);
  };
  look();
})()"""
CELL = (
    "[...document.querySelectorAll('table.board tbody tr')]"
    ".find((row) => row.querySelector('th button').textContent === 'steered')"
    ".querySelector('button.score').click()"
)
READ = "document.querySelector('#cell .actions button').click()"
FIRST = "document.querySelector('#samples .sample h3')?.firstChild.textContent"
GAIN = "document.querySelector('#samples .sample h3')?.textContent"
STATUS = "document.querySelector('#samples [role=status]').textContent"


def main() -> int:
    """Write the page, act on it, print the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=50_000, help="samples per row (50000)")
    count = parser.parse_args().samples
    path = os.environ.get("LM_EVAL_TRUST_CHROMIUM") or shutil.which("chromium")
    if path is None:
        print("page: there is no Chromium; run `make browser` or set LM_EVAL_TRUST_CHROMIUM")
        return 0
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        file = written_page(Path(folder), count)
        arguments = ["--no-sandbox", "--enable-precise-memory-info"]
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        opening(browser, file, count)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(file.as_uri())
        page.wait_for_timeout(1500)
        times = interactions(page, count)
        for name, took in times.items():
            report(name, took)
        print(f"{'heap after all of it':<34}{heap(page):>9.1f} MB")
        browser.close()
    slow = [name for name, took in times.items() if took > LIMIT and "whole search" not in name]
    print(f"over {LIMIT:.0f} ms: {', '.join(slow) or 'none'}")
    return 0


def written_page(folder: Path, count: int) -> Path:
    """Write results, and the page from them; print how long that took and its size."""
    for name in ("plain", "steered"):
        generated_run(folder / name, name, count)
    start = time.perf_counter()
    samples = Samples()
    runs, _ = read_runs([folder], samples)
    boards = build_boards(runs, samples=samples)
    report("read the results and compare", 1000 * (time.perf_counter() - start))
    start = time.perf_counter()
    write_page(folder / "page.html", boards)
    report("write the page", 1000 * (time.perf_counter() - start))
    print(f"{'its size':<34}{(folder / 'page.html').stat().st_size / 1e6:>9.1f} MB")
    return folder / "page.html"


def opening(browser: Browser, file: Path, count: int) -> None:
    """Print times until the first row and a linked sample are drawn, and the heap after each."""
    link = {"row": "steered", "score": f"{TASK}/{METRIC},none", "item": count // 2}
    for name, seen, address in (
        ("first row", "row", file.as_uri()),
        ("a linked sample", "sample", f"{file.as_uri()}#{urlencode(link)}"),
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(WATCH)
        page.goto(address, wait_until="commit")
        page.wait_for_load_state("load")
        page.locator(
            "table.board tbody tr" if seen == "row" else "#samples .sample"
        ).first.wait_for()
        page.wait_for_timeout(100)
        report(name, page.evaluate(f"window.seen.{seen}"))
        page.wait_for_timeout(500)
        print(f"{'heap then':<34}{heap(page):>9.1f} MB")
        page.close()


def heap(page: Page) -> float:
    """Return the used JavaScript heap after a collection, in MB."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    return float(session.send("Runtime.getHeapUsage")["usedSize"]) / 1e6


def interactions(page: Page, count: int) -> dict[str, float]:
    """Return how long each action takes, in milliseconds."""
    press = "document.querySelector('#samples [data-turn={}]').click()"
    choose = (
        "const s = [...document.querySelectorAll('#samples select')].at(-1);"
        "s.value = '{}'; s.dispatchEvent(new Event('change'))"
    )
    find = (
        "const s = document.querySelector('#samples input');"
        "s.value = '{}'; s.dispatchEvent(new Event('input'))"
    )
    jump = (
        "const s = document.querySelector('#samples input[type=number]');"
        "s.value = '{}'; s.dispatchEvent(new Event('change'))"
    )
    steps = {
        "sort the table": (
            f"document.querySelector('[data-sort*={TASK}]').click()",
            "document.querySelector('[aria-sort=descending]')",
        ),
        "open a cell": (CELL, "document.querySelector('#cell:popover-open')"),
        "open the samples": (READ, FIRST),
        "next page": (press.format("Next"), f"{FIRST} === 'Item 10'"),
        "last page": (press.format("Last"), f"{FIRST} === 'Item {count - 10}'"),
        "go to an item": (jump.format(count // 2), f"{FIRST} === 'Item {count // 2}'"),
        "scroll through a page": (
            "document.querySelector('#samples .samples').scrollTop = 1e6",
            "document.querySelector('#samples .samples').scrollTop > 0",
        ),
        "only changed answers": (
            choose.format("changed"),
            f"!{STATUS}.includes(' of {count:,} shown')",
        ),
        "only regressions": (choose.format("worse"), f"{GAIN}?.includes('worse')"),
        "only gains": (choose.format("better"), f"{GAIN}?.includes('better')"),
        "all samples": (choose.format("all"), f"{FIRST} === 'Item 0'"),
        "search, first results": (
            find.format("amber"),
            f"!{STATUS}.startsWith('1–10 of {count:,}')",
        ),
    }
    times = {name: page.evaluate(TIMED, list(step)) for name, step in steps.items()}
    page.evaluate(
        "window.longest = 0; new PerformanceObserver((list) => list.getEntries().forEach("
        "(e) => { window.longest = Math.max(window.longest, e.duration); }))"
        ".observe({type: 'longtask'})"
    )
    rare = f"{STATUS}.startsWith('1–1 of 1 ') && !{STATUS}.includes('searched')"
    times["whole search for a rare word"] = page.evaluate(TIMED, [find.format("needle"), rare])
    times["its longest task over 50 ms"] = page.evaluate("window.longest")
    return times


def report(name: str, milliseconds: float) -> None:
    """Print a line."""
    print(f"{name:<34}{milliseconds:>9.1f} ms", flush=True)


def generated_run(folder: Path, name: str, count: int) -> None:
    """Write a run of generated samples; both get two thirds right, on other items."""
    draw = random.Random(name)
    samples = [sample(item, draw, "needle" if item == count - 7 else "") for item in range(count)]
    share = sum(each[METRIC] for each in samples) / count
    results = {
        "results": {TASK: {f"{METRIC},none": share, f"{METRIC}_stderr,none": 0.002}},
        "configs": {TASK: {"metric_list": [{"metric": METRIC, "higher_is_better": True}]}},
        "higher_is_better": {TASK: {METRIC: True}},
        "n-samples": {TASK: {"original": count, "effective": count}},
        "versions": {TASK: 1},
        "config": {"model": "amber", "model_args": {"pretrained": name}},
        "model_name": name,
    }
    write_run(folder, "2026-01-02T03-04-05.678901", results, {TASK: samples})


def sample(item: int, draw: random.Random, extra: str) -> dict[str, object]:
    """Return a sample with a prompt of thirty words and an answer of ten, which rows may share."""
    asking = random.Random(item)
    prompt = " ".join(asking.choice(WORDS) for _ in range(30))
    answering = asking if item % 2 else draw
    answer = " ".join(answering.choice(WORDS) for _ in range(10))
    return {
        "doc_id": item,
        "doc": {},
        "target": "",
        "arguments": {"gen_args_0": {"arg_0": f"{item} {prompt}?", "arg_1": {}}},
        "resps": [[f"{answer} {extra}"]],
        "filtered_resps": [f"{answer} {extra}"],
        "filter": "none",
        "metrics": [METRIC],
        METRIC: float(draw.random() < 2 / 3),
    }


if __name__ == "__main__":
    sys.exit(main())
