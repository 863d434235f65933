"""How long each interaction takes on a page of two rows with 100,000 samples each.

Writes a page of two rows whose only task has 100,000 generated samples each, opens it in a headless
Chromium, and prints the time from each action to its result on the screen, and the longest time
for which a search keeps the browser from answering.

    python benchmarks/page.py [--samples 100000]

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

from playwright.sync_api import Page, sync_playwright

from lm_eval_trust.analysis.comparison import compare
from lm_eval_trust.core.saved_runs import SavedRun, read_run, write_run
from lm_eval_trust.leaderboard.board import Board, Column, Pair, Row, Score
from lm_eval_trust.leaderboard.page import write_page

COLUMN = Column("generated", "acc", "none", "Accuracy", True, "reliability")
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
ROW = (
    "[...document.querySelectorAll('table.board tbody tr')]"
    ".find((row) => row.querySelector('th button').textContent === 'steered')"
    ".querySelector('button.score').click()"
)
FIRST = "document.querySelector('#samples .sample h3')?.firstChild.textContent"
GAIN = "document.querySelector('#samples .sample h3')?.textContent"
STATUS = "document.querySelector('#samples [role=status]').textContent"


def main() -> int:
    """Write the page, act on it, print the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=100_000, help="samples per row (100000)")
    count = parser.parse_args().samples
    path = os.environ.get("LM_EVAL_TRUST_CHROMIUM") or shutil.which("chromium")
    if path is None:
        print("page: there is no Chromium; run `make browser` or set LM_EVAL_TRUST_CHROMIUM")
        return 0
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        file = Path(folder) / "page.html"
        board = generated_board(Path(folder), count)
        start = time.perf_counter()
        write_page(file, [board])
        report("write the page", 1000 * (time.perf_counter() - start))
        print(f"{'its size':<34}{file.stat().st_size / 1e6:>9.1f} MB")
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        page.goto(file.as_uri())
        report("open the page", 1000 * (time.perf_counter() - start))
        page.wait_for_timeout(1500)
        times = interactions(page, count)
        browser.close()
    for name, took in times.items():
        report(name, took)
    slow = [name for name, took in times.items() if took > LIMIT and "whole search" not in name]
    print(f"over {LIMIT:.0f} ms: {', '.join(slow) or 'none'}")
    return 0


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
    sort = "document.querySelector('[data-sort*=generated]').click()"
    steps = {
        "sort the table": (sort, "document.querySelector('[aria-sort=descending]')"),
        "open the samples": (ROW, FIRST),
        "next page": (press.format("Next"), f"{FIRST} === 'Item 10'"),
        "last page": (press.format("Last"), f"{FIRST} === 'Item {count - 10}'"),
        "only changed answers": (
            choose.format("changed"),
            f"!{STATUS}.startsWith('1–10 of {count:,}')",
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


def generated_board(folder: Path, count: int) -> Board:
    """Return a board of two rows; both get two thirds right, on other items."""
    runs = [generated_run(folder / name, name, count) for name in ("plain", "steered")]
    values = [[sample["acc"] for sample in run.samples("generated")] for run in runs]
    rows = tuple(
        Row(name, {COLUMN.key: Score(sum(v) / count, 0.001, count)}, (run,), {"model": name})
        for name, run, v in zip(("plain", "steered"), runs, values, strict=True)
    )
    compared = compare(*values)
    pair = Pair("plain", "steered", COLUMN.key, compared, 0.5, compared.difference)
    return Board((COLUMN,), rows, (pair,), "plain")


def generated_run(folder: Path, name: str, count: int) -> SavedRun:
    """Write a run of generated samples."""
    draw = random.Random(name)
    samples = [sample(item, draw, "needle" if item == count - 7 else "") for item in range(count)]
    results = {"configs": {"generated": {}}}
    date = "2026-01-02T03-04-05.678901"
    return read_run(write_run(folder, date, results, {"generated": samples}))


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
        "metrics": ["acc"],
        "acc": float(draw.random() < 2 / 3),
    }


if __name__ == "__main__":
    sys.exit(main())
