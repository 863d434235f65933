"""The page of an audit: figures, drawings, no markup from outside, narrow windows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser
from support.axe import violations
from support.browser import open_page

from lm_eval_trust.analysis.comparison import compare
from lm_eval_trust.analysis.effects import effects_of
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.audit.page import forest, page_of
from lm_eval_trust.audit.reports import lines, write_reports
from lm_eval_trust.audit.rules import (
    GROUPS,
    HARMFUL,
    NOT_SHOWN,
    SHOWN,
    ArmRow,
    Finding,
    Judged,
    verdict_of,
)
from lm_eval_trust.audit.settings import Audit

HOSTILE = "<script>alert(1)</script>"


def finding(group: str, outcome: str = "passed", harm: bool = False) -> Finding:
    return Finding(group, f"{group} rule", outcome, f"{HOSTILE} & figures", harm=harm)


def audited(*findings: Finding) -> Any:
    before, after = [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]
    gain = compare(before, after)
    categories = [effects_of(before, after, category=name) for name in ("", HOSTILE, "tea" * 30)]
    return SimpleNamespace(
        audit=Audit(Path("steering.yaml"), "amber", {"pretrained": "mini"}, tasks=("t",), tried=3),
        judged=Judged(
            verdict_of(findings),
            findings,
            (ArmRow("t", "prompt", 0.5, gain, 1.0, 0.75, gain), ArmRow("t", "sign", 0.5, gain, 1)),
            {"t": categories},
        ),
        judges=(),
        measured=SimpleNamespace(text=(SimpleNamespace(divergence=0.0),) * 2),
        provenance={"model": {"name": HOSTILE}, "tried": 3, "long": list(range(500))},
        notes=("One after the other.",),
    )


ALL = [finding(group) for group in GROUPS if group != "side effects"]


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        (ALL, SHOWN),
        ([*ALL, finding("gain", "inconclusive")], NOT_SHOWN),
        ([*ALL, finding("controls", "failed")], NOT_SHOWN),
        ([*ALL, finding("gain", "failed", harm=True)], HARMFUL),
        ([finding("gain")], NOT_SHOWN),
        ([], NOT_SHOWN),
    ],
)
def test_the_verdict_follows_from_the_rules(findings: list[Finding], verdict: str) -> None:
    assert verdict_of(findings) == verdict


def test_the_page_says_everything_and_takes_no_markup(tmp_path: Path) -> None:
    found = audited(*ALL)
    page = page_of(found)
    assert "<script" not in page and "&lt;script&gt;" in page
    for asked in GROUPS.values():
        if not asked.startswith("No other"):
            assert asked in page
    write_reports(found, tmp_path)
    assert json.loads((tmp_path / "audit.json").read_text())["verdict"] == "shown"
    assert list(lines(found))[-1] == "steering.yaml: shown"
    assert list(lines(audited(finding("gain", "failed"))))[-1] == "steering.yaml: NOT SHOWN"


def test_a_forest_puts_intervals_to_scale_and_bears_ends_that_are_unknown() -> None:
    drawn = forest([("a", Interval(0.5, 0.0, 1.0)), ("b", Interval(-1.0, -1.0, -1.0))])
    x = [float(at) for at in re.findall(r"(?:cx='|points=')([\d.]+)", drawn)]
    ends = [float(part.split("'")[1]) for part in drawn.split("class='open'")[1].split("x1=")[1:]]
    assert x[0] > x[1] and ends[0] < x[0]
    assert "nan" not in forest([("a", Interval(0.5, float("nan"), float("inf")))], margin=-0.1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_disk_in_a_narrow_window(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    write_reports(audited(*ALL), tmp_path)
    watched = open_page(browser, tmp_path / "audit.html", width=360, color_scheme=scheme)
    page = watched.page
    for each in page.locator("details").all():
        each.evaluate("element => element.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert violations(page) == []
    assert len(watched.requests) == 1 and not watched.errors and not watched.dialogs
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(251, 250, 247)") == (scheme == "light")
