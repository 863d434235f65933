"""The page of an audit: one file without scripts, which loads nothing, for light and dark."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from lm_eval_trust.analysis.comparison import Comparison
from lm_eval_trust.analysis.effects import Effects
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.audit.rules import GROUPS, HARMFUL, SHOWN, ArmRow, Finding
from lm_eval_trust.audit.run import Audited
from lm_eval_trust.core.plain import plain
from lm_eval_trust.leaderboard.page.static import scrolling, static_page, table, text

#: What a verdict means, in a sentence.
MEANINGS = {
    SHOWN: "Every rule below holds: the items show the gain, that it is more than the controls' "
    "gain, and that nothing else is lost beyond the margin.",
    HARMFUL: "The items show a loss beyond what is acceptable, or the steered model alone gives no "
    "usable values; the rules below say where.",
    "not shown": "The items do not show everything that the rules below demand. That is no proof "
    "of the opposite: rules that are inconclusive say what these items could have shown.",
}
_STYLE = """
.verdict { border: 2px solid; border-radius: .5rem; padding: .6rem 1rem; margin: 1rem 0; }
.verdict b { font-size: 1.3rem; } .verdict p { color: var(--ink); } table { width: 100%; }
.passed, .shown { color: var(--better); } .failed, .harmful { color: var(--worse); }
.inconclusive, .not-shown { color: var(--open); }
td.said { min-width: 18rem; } svg { display: block; width: 100%; min-width: 36rem; height: auto; }
svg text { fill: var(--ink); font: 12px var(--sans); }
svg .axis { stroke: var(--rule); } svg .zero { stroke: var(--muted); stroke-dasharray: 3 3; }
svg .good { stroke: var(--better); fill: var(--better); }
svg .bad { stroke: var(--worse); fill: var(--worse); }
svg .open { stroke: var(--open); fill: var(--open); }
svg rect.wrong { fill: var(--worse); } svg rect.right { fill: var(--better); }
svg rect.unmoved { fill: var(--rule); }
"""
#: Width of a drawing, of its labels and of its figures, in CSS pixels; height of a row.
_WIDTH, _LABELS, _ROW = 720, 250, 22


def page_of(audited: Audited) -> str:
    """Return the page."""
    audit, judged = audited.audit, audited.judged
    parts = [
        f"<p class='note'>{text(_what(audited))}</p>",
        f"<div class='verdict {judged.verdict.replace(' ', '-')}'><b>{text(judged.verdict)}</b>"
        f"<p>{text(MEANINGS[judged.verdict])}</p></div>",
        *(f"<p class='note'>{text(note)}</p>" for note in audited.notes),
        "<h2>Rules</h2>",
        *_rules(judged.findings),
        "<h2>Gain over each control</h2>",
        *_arms(judged.arms),
        "<h2>Other tasks</h2>",
        *_side_effects(audited),
        "<h2>Single items</h2>",
        *_items(audited),
        "<h2>Judges</h2>",
        *_judges(audited),
        "<h2>Provenance</h2>",
        *_provenance(audited),
    ]
    return static_page(f"Audit of {audit.steering.name}", parts, _STYLE)


def _what(audited: Audited) -> str:
    audit = audited.audit
    limit = f"at most {audit.limit} items each" if audit.limit else "all items"
    return (
        f"{audit.model} {PurePath(str(audit.arguments.get('pretrained', ''))).name}, to become "
        f"better: "
        f"{', '.join(audit.tasks)}; {limit} of the test part. Intervals are at "
        f"{audited.audit.demands.confidence:.0%} and count groups of items; the steering was "
        f"chosen from {audit.tried} configuration{'s' if audit.tried != 1 else ''}."
    )


def _rules(findings: Sequence[Finding]) -> Iterator[str]:
    lines = []
    for group, asks in GROUPS.items():
        of_group = [finding for finding in findings if finding.group == group]
        if of_group:
            lines.append(f"<tr><th colspan=3 scope=rowgroup>{text(asks)}</th></tr>")
        for finding in of_group:
            harm = ", harmful" if finding.harm else ""
            lines.append(
                f"<tr><td class='{finding.outcome}'>{finding.outcome}{harm}</td>"
                f"<td>{text(finding.title)}</td><td class='said'>{text(finding.said)}</td></tr>"
            )
    yield from table("Rules", ("outcome", "rule", "what the data show"), lines)


def _arms(rows: Sequence[ArmRow]) -> Iterator[str]:
    for task in dict.fromkeys(row.task for row in rows):
        of_task = [row for row in rows if row.task == task]
        yield f"<h3>{text(task)}</h3>"
        differences = [(f"over {row.arm}", row.gain.difference) for row in of_task]
        yield forest(differences, label=f"Gain over each control: {task}")
        heads = ("control", "score", "change to the steered model", "interval", "p", "p, adjusted")
        more = ("steered as well", "change", "interval")
        lines = []
        for row in of_task:
            cells = [_cell(row.arm), _number(row.value), *_change(row.gain)]
            cells += [_number(row.gain.p), _number(row.adjusted)]
            if row.within is not None and row.steered is not None:
                cells += [_number(row.steered), *_change(row.within)]
            else:
                cells += ["<td></td>"] * 3
            lines.append(f"<tr>{''.join(cells)}</tr>")
        yield from table(f"Controls: {task}", (*heads, *more), lines, (1, 2, 4, 5, 6, 7))
        most = max(of_task, key=lambda row: row.without)
        if most.without:
            whole = most.without + most.gain.items
            yield (
                f"<p class='note'>Items without a value under one of the two are left out of a "
                f"change: at most {most.without} of {whole}.</p>"
            )
    yield (
        "<p class='note'>Changes are the steered model minus the control on the same items. p is "
        "two-sided (McNemar's test, or sign flips by group), adjusted for all controls by Holm's "
        "method. “Steered as well”: the steering under the control's own text.</p>"
    )


def _side_effects(audited: Audited) -> Iterator[str]:
    found = [f for f in audited.judged.findings if f.group == "side effects"]
    plain_changes = [
        (f.title.split(":")[0], f.verdict.change)
        for f in found
        if f.verdict is not None and f.verdict.change is not None and not f.verdict.is_ratio
    ]
    if plain_changes:
        margin = -audited.audit.demands.margin
        yield forest(plain_changes, margin, label="Changes of other tasks")
    lines = []
    for finding in found:
        verdict = finding.verdict
        assert verdict is not None
        lines.append(
            f"<tr>{_cell(verdict.task)}{_number(verdict.reference)}{_number(verdict.value)}"
            f"<td class='said'>{text(finding.said)}</td></tr>"
        )
    heads = ("task", "unsteered", "steered", "what these items show")
    yield from table("Other tasks", heads, lines, (1, 2))
    before, after = (each.divergence for each in audited.measured.text)
    del before
    yield f"<p class='note'>Mean KL(unsteered ‖ steered) per token of text: {after:.4g} nats.</p>"


def _items(audited: Audited) -> Iterator[str]:
    for task, effects in audited.judged.effects.items():
        yield f"<h3>{text(task)}</h3>"
        shares = [(each.category or "all items", each) for each in effects]
        yield bars(shares, label=f"Shares of items: {task}")
        yield "<details><summary>Figures</summary>"
        heads = ("category", "items", "wrong way", "interval", "right way", "interval", "mean")
        lines = (
            f"<tr>{_cell(each.category or 'all')}{_number(each.items)}"
            f"{_number(each.wrong.mean)}{_interval(each.wrong)}"
            f"{_number(each.right.mean)}{_interval(each.right)}{_number(each.mean)}</tr>"
            for each in effects
        )
        yield from table(f"Items: {task}", heads, lines, (1, 2, 4, 6))
        yield "</details>"


def _judges(audited: Audited) -> Iterator[str]:
    if not audited.judges:
        yield "<p>No judge takes part: answers are compared with the benchmark's own.</p>"
    for quality in audited.judges:
        yield f"<p>{text(quality.task)}: {text(quality.judge)}, {text(quality.calibration)}.</p>"
        lines = []
        for change in quality.changes:
            corrected = _words(change.corrected) if change.corrected else change.why
            cells = (change.metric, _words(change.counted), corrected)
            lines.append(f"<tr>{''.join(map(_cell, cells))}</tr>")
        heads = ("share", "change as judged", "corrected for the judge's errors")
        yield from table(f"Judge: {quality.task}", heads, lines)


def _provenance(audited: Audited) -> Iterator[str]:
    lines = []
    for name, value in audited.provenance.items():
        simple = isinstance(value, (str, int))
        shown = text(str(value)) if simple else f"<pre>{text(_json(value))}</pre>"
        if not simple and len(shown) > 600:
            shown = f"<details><summary>show</summary>{shown}</details>"
        lines.append(f"<tr><td>{text(name.replace('_', ' '))}</td><td>{shown}</td></tr>")
    yield from table("Provenance", ("what", "value"), lines)


def forest(
    rows: Sequence[tuple[str, Interval]], margin: float | None = None, *, label: str = "Changes"
) -> str:
    """Return intervals around their means as an SVG, with a line at zero and at a margin.

    Points are triangles up or down where the interval excludes zero, and circles elsewhere.
    """
    ends = [end for _, i in rows for end in (i.low, i.high, i.mean) if math.isfinite(end)]
    low, high = min([0.0, margin or 0.0, *ends]), max([0.0, *ends])
    wide = (high - low) or 1.0

    def x(value: float) -> float:
        bounded = min(max(value, low), high) if not math.isnan(value) else low
        return _LABELS + (bounded - low) / wide * (_WIDTH - _LABELS - 60)

    height = _ROW * len(rows) + 24
    lines = [f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' aria-label='{text(label)}'>"]
    for at, kind in ((0.0, "axis"), (margin, "zero")):
        if at is not None:
            lines.append(
                f"<line class='{kind}' x1='{x(at):.1f}' x2='{x(at):.1f}' y1='0' "
                f"y2='{height - 18}'/><text x='{x(at):.1f}' y='{height - 4}' "
                f"text-anchor='middle'>{at:g}</text>"
            )
    for number, (name, interval) in enumerate(rows):
        y = _ROW * number + 12
        colour = "good" if interval.low > 0 else "bad" if interval.high < 0 else "open"
        lines.append(
            f"<text x='0' y='{y + 4}'>{text(name[:42])}</text><line class='{colour}' "
            f"stroke-width='2' x1='{x(interval.low):.1f}' x2='{x(interval.high):.1f}' y1='{y}' "
            f"y2='{y}'/>{_point(colour, x(interval.mean), y)}"
            f"<text x='{_WIDTH}' y='{y + 4}' text-anchor='end'>{interval.mean:+.3f}</text>"
        )
    return scrolling(f"Chart. {label}", f"{''.join(lines)}</svg>")


def _point(kind: str, x: float, y: float) -> str:
    if kind == "open":
        return f"<circle class='{kind}' cx='{x:.1f}' cy='{y}' r='4'/>"
    tip = -6 if kind == "good" else 6
    corners = f"{x:.1f},{y + tip} {x + 5:.1f},{y - tip * 0.7:.1f} {x - 5:.1f},{y - tip * 0.7:.1f}"
    return f"<polygon class='{kind}' points='{corners}'/>"


def bars(rows: Sequence[tuple[str, Effects]], *, label: str = "Shares of items") -> str:
    """Return shares of items that moved the wrong way, not at all, and the right way, as an SVG."""
    height, room = _ROW * len(rows), _WIDTH - _LABELS - 60
    lines = [f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' aria-label='{text(label)}'>"]
    for number, (name, effects) in enumerate(rows):
        y, left = _ROW * number, float(_LABELS)
        lines.append(f"<text x='0' y='{y + 14}'>{text(name[:36])} ({effects.items})</text>")
        for way in ("wrong", "unmoved", "right"):
            width = getattr(effects, way).mean * room
            lines.append(
                f"<rect class='{way}' x='{left:.1f}' y='{y + 3}' width='{width:.1f}' height='14'/>"
            )
            left += width
        lines.append(
            f"<text x='{_WIDTH}' y='{y + 14}' text-anchor='end'>{effects.wrong.mean:.1%}</text>"
        )
    legend = (
        "<p class='note'>From the left: moved the wrong way (orange, share at the right), not "
        "moved (grey), the right way (blue).</p>"
    )
    return scrolling(f"Chart. {label}", f"{''.join(lines)}</svg>") + legend


def _change(found: Comparison) -> tuple[str, str]:
    return f"<td class='n'>{found.difference.mean:+.3f}</td>", _interval(found.difference)


def _interval(interval: Interval) -> str:
    return f"<td class='n'>[{interval.low:.3f}, {interval.high:.3f}]</td>"


def _words(interval: Interval) -> str:
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _number(value: float | None) -> str:
    return "<td></td>" if value is None else f"<td class='n'>{value:.4g}</td>"


def _cell(value: str) -> str:
    return f"<td>{text(value)}</td>"


def _json(value: Any) -> str:
    return json.dumps(plain(value), indent=1, ensure_ascii=False)
