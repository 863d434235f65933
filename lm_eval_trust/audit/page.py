"""The page of an audit: one file without scripts, which loads nothing, for light and dark."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from lm_eval_trust.analysis.comparison import Comparison
from lm_eval_trust.analysis.effects import Effects
from lm_eval_trust.analysis.statistics import Interval
from lm_eval_trust.audit.rules import GROUPS, HARMFUL, SHOWN, ArmRow, Finding
from lm_eval_trust.audit.run import Audited
from lm_eval_trust.core.plain import plain

#: What a verdict means, in a sentence.
MEANINGS = {
    SHOWN: "Every rule below holds: the items show the gain, that it is more than the controls' "
    "gain, and that nothing else is lost beyond the margin.",
    HARMFUL: "The items show a loss beyond what is acceptable; the rules below say where.",
    "not shown": "The items do not show everything that the rules below demand. That is no proof "
    "of the opposite: rules that are inconclusive say what these items could have shown.",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --line: #d5d5d5; --soft: #666;
  --good: #00704f; --bad: #b54000; --open: #7a5c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #161616; --line: #3d3d3d;
  --soft: #a5a5a5; --good: #4cc79e; --bad: #ff9a5c; --open: #e3bd4f; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 66rem;
  color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: .5rem 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.verdict { border: 2px solid; border-radius: .5rem; padding: .6rem 1rem; margin: 1rem 0; }
.verdict b { font-size: 1.3rem; }
.passed, .shown { color: var(--good); } .failed, .harmful { color: var(--bad); }
.inconclusive, .not-shown { color: var(--open); } .note { color: var(--soft); font-size: .9rem; }
.verdict p, td, th { color: var(--ink); } td.passed { color: var(--good); }
td.failed { color: var(--bad); } td.inconclusive { color: var(--open); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; width: 100%;
  font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .25rem .6rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; } td.n, th.n { text-align: right; white-space: nowrap; }
td.said { min-width: 18rem; } svg { display: block; width: 100%; min-width: 36rem; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--line); } svg .zero { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .good { stroke: var(--good); fill: var(--good); } svg .bad { stroke: var(--bad);
  fill: var(--bad); } svg .open { stroke: var(--open); fill: var(--open); }
svg rect.wrong { fill: var(--bad); } svg rect.right { fill: var(--good); }
svg rect.unmoved { fill: var(--line); } pre { white-space: pre-wrap; font-size: .82rem; }
summary { cursor: pointer; }
"""
#: Width of a drawing, of its labels and of its figures, in CSS pixels; height of a row.
_WIDTH, _LABELS, _ROW = 720, 250, 22


def page_of(audited: Audited) -> str:
    """Return the page."""
    audit, judged = audited.audit, audited.judged
    title = f"Audit of {audit.steering.name}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        "'unsafe-inline'\">",
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{_text(title)}</h1>",
        f"<p class='note'>{_text(_what(audited))}</p>",
        f"<div class='verdict {judged.verdict.replace(' ', '-')}'><b>{_text(judged.verdict)}</b>"
        f"<p>{_text(MEANINGS[judged.verdict])}</p></div>",
        *(f"<p class='note'>{_text(note)}</p>" for note in audited.notes),
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
        "</main></body></html>",
        "",
    ]
    return "\n".join(parts)


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
    yield from _table_head("outcome", "rule", "what the data show")
    for group, asks in GROUPS.items():
        of_group = [finding for finding in findings if finding.group == group]
        if of_group:
            yield f"<tr><th colspan=3>{_text(asks)}</th></tr>"
        for finding in of_group:
            harm = ", harmful" if finding.harm else ""
            yield (
                f"<tr><td class='{finding.outcome}'>{finding.outcome}{harm}</td>"
                f"<td>{_text(finding.title)}</td><td class='said'>{_text(finding.said)}</td></tr>"
            )
    yield "</tbody></table></div>"


def _arms(rows: Sequence[ArmRow]) -> Iterator[str]:
    for task in dict.fromkeys(row.task for row in rows):
        of_task = [row for row in rows if row.task == task]
        yield f"<h3>{_text(task)}</h3>"
        yield forest([(f"over {row.arm}", row.gain.difference) for row in of_task])
        heads = ("control", "score", "change to the steered model", "interval", "p", "p, adjusted")
        more = ("steered as well", "change", "interval")
        yield from _table_head(*heads, *more, numbers=(1, 2, 4, 5, 6, 7))
        for row in of_task:
            cells = [_cell(row.arm), _number(row.value), *_change(row.gain)]
            cells += [_number(row.gain.p), _number(row.adjusted)]
            if row.within is not None and row.steered is not None:
                cells += [_number(row.steered), *_change(row.within)]
            else:
                cells += ["<td></td>"] * 3
            yield f"<tr>{''.join(cells)}</tr>"
        yield "</tbody></table></div>"
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
        yield forest(plain_changes, margin=-audited.audit.demands.margin)
    yield from _table_head("task", "unsteered", "steered", "what these items show", numbers=(1, 2))
    for finding in found:
        verdict = finding.verdict
        assert verdict is not None
        yield (
            f"<tr>{_cell(verdict.task)}{_number(verdict.reference)}{_number(verdict.value)}"
            f"<td class='said'>{_text(finding.said)}</td></tr>"
        )
    yield "</tbody></table></div>"
    before, after = (each.divergence for each in audited.measured.text)
    del before
    yield f"<p class='note'>Mean KL(unsteered ‖ steered) per token of text: {after:.4g} nats.</p>"


def _items(audited: Audited) -> Iterator[str]:
    for task, effects in audited.judged.effects.items():
        yield f"<h3>{_text(task)}</h3>"
        yield bars([(each.category or "all items", each) for each in effects])
        yield "<details><summary>Figures</summary>"
        heads = ("category", "items", "wrong way", "interval", "right way", "interval", "mean")
        yield from _table_head(*heads, numbers=(1, 2, 4, 6))
        for each in effects:
            yield (
                f"<tr>{_cell(each.category or 'all')}{_number(each.items)}"
                f"{_number(each.wrong.mean)}{_interval(each.wrong)}"
                f"{_number(each.right.mean)}{_interval(each.right)}{_number(each.mean)}</tr>"
            )
        yield "</tbody></table></div></details>"


def _judges(audited: Audited) -> Iterator[str]:
    if not audited.judges:
        yield "<p>No judge takes part: answers are compared with the benchmark's own.</p>"
    for quality in audited.judges:
        yield f"<p>{_text(quality.task)}: {_text(quality.judge)}, {_text(quality.calibration)}.</p>"
        yield from _table_head("share", "change as judged", "corrected for the judge's errors")
        for change in quality.changes:
            corrected = _words(change.corrected) if change.corrected else change.why
            cells = (change.metric, _words(change.counted), corrected)
            yield f"<tr>{''.join(map(_cell, cells))}</tr>"
        yield "</tbody></table></div>"


def _provenance(audited: Audited) -> Iterator[str]:
    yield from _table_head("", "")
    for name, value in audited.provenance.items():
        simple = isinstance(value, (str, int))
        shown = _text(str(value)) if simple else f"<pre>{_text(_json(value))}</pre>"
        if not simple and len(shown) > 600:
            shown = f"<details><summary>show</summary>{shown}</details>"
        yield f"<tr><td>{_text(name.replace('_', ' '))}</td><td>{shown}</td></tr>"
    yield "</tbody></table></div>"


def forest(rows: Sequence[tuple[str, Interval]], margin: float | None = None) -> str:
    """Return intervals around their means as an SVG, with a line at zero and at a margin."""
    ends = [end for _, i in rows for end in (i.low, i.high, i.mean) if math.isfinite(end)]
    low, high = min([0.0, margin or 0.0, *ends]), max([0.0, *ends])
    wide = (high - low) or 1.0

    def x(value: float) -> float:
        bounded = min(max(value, low), high) if not math.isnan(value) else low
        return _LABELS + (bounded - low) / wide * (_WIDTH - _LABELS - 60)

    height = _ROW * len(rows) + 24
    lines = [f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' aria-label='changes'>"]
    for at, kind in ((0.0, "axis"), (margin, "zero")):
        if at is not None:
            lines.append(
                f"<line class='{kind}' x1='{x(at):.1f}' x2='{x(at):.1f}' y1='0' "
                f"y2='{height - 18}'/><text x='{x(at):.1f}' y='{height - 4}' "
                f"text-anchor='middle'>{at:g}</text>"
            )
    for number, (label, interval) in enumerate(rows):
        y = _ROW * number + 12
        colour = "good" if interval.low > 0 else "bad" if interval.high < 0 else "open"
        lines.append(
            f"<text x='0' y='{y + 4}'>{_text(label[:42])}</text><line class='{colour}' "
            f"stroke-width='2' x1='{x(interval.low):.1f}' x2='{x(interval.high):.1f}' y1='{y}' "
            f"y2='{y}'/><circle class='{colour}' cx='{x(interval.mean):.1f}' cy='{y}' r='4'/>"
            f"<text x='{_WIDTH}' y='{y + 4}' text-anchor='end'>{interval.mean:+.3f}</text>"
        )
    return f"<div class='scroll'>{''.join(lines)}</svg></div>"


def bars(rows: Sequence[tuple[str, Effects]]) -> str:
    """Return shares of items that moved the wrong way, not at all, and the right way, as an SVG."""
    height, room = _ROW * len(rows), _WIDTH - _LABELS - 60
    lines = [f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' aria-label='shares of items'>"]
    for number, (label, effects) in enumerate(rows):
        y, left = _ROW * number, float(_LABELS)
        lines.append(f"<text x='0' y='{y + 14}'>{_text(label[:36])} ({effects.items})</text>")
        for way in ("wrong", "unmoved", "right"):
            width = getattr(effects, way).mean * room
            lines.append(
                f"<rect class='{way}' x='{left:.1f}' y='{y + 3}' width='{width:.1f}' height='14'/>"
            )
            left += width
        lines.append(
            f"<text x='{_WIDTH}' y='{y + 14}' text-anchor='end'>{effects.wrong.mean:.1%}</text>"
        )
    legend = "<p class='note'>Orange: moved the wrong way (share at the right); grey: not moved; "
    return f"<div class='scroll'>{''.join(lines)}</svg></div>{legend}green: the right way.</p>"


def _table_head(*names: str, numbers: Iterable[int] = ()) -> Iterator[str]:
    right = set(numbers)
    heads = (
        f"<th{' class=n' if at in right else ''}>{_text(name)}</th>"
        for at, name in enumerate(names)
    )
    yield f"<div class='scroll'><table><thead><tr>{''.join(heads)}</tr></thead><tbody>"


def _change(found: Comparison) -> tuple[str, str]:
    return f"<td class='n'>{found.difference.mean:+.3f}</td>", _interval(found.difference)


def _interval(interval: Interval) -> str:
    return f"<td class='n'>[{interval.low:.3f}, {interval.high:.3f}]</td>"


def _words(interval: Interval) -> str:
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _number(value: float | None) -> str:
    return "<td></td>" if value is None else f"<td class='n'>{value:.4g}</td>"


def _cell(text: str) -> str:
    return f"<td>{_text(text)}</td>"


def _text(text: str) -> str:
    return html.escape(text)


def _json(value: Any) -> str:
    return json.dumps(plain(value), indent=1, ensure_ascii=False)
