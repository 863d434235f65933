"""What a ranking leaves behind: tables, JSON, Markdown, figures, steering files, and a page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lm_eval_trust.analysis.cost_figures import CostPanel, Point, cost_curves
from lm_eval_trust.analysis.figures import save_figure
from lm_eval_trust.analysis.tables import write_table
from lm_eval_trust.core.plain import plain
from lm_eval_trust.core.storage import atomic_path
from lm_eval_trust.rank.arms import METHOD, RANDOM, steering_of
from lm_eval_trust.rank.compare import (
    Row,
    Standing,
    duels_of,
    rows_of,
    standings_of,
    unmoved,
    usable,
    winners,
)
from lm_eval_trust.rank.page import layers_in_words, page_of
from lm_eval_trust.rank.run import PanelResult, Ranking
from lm_eval_trust.steering.spec import steering_yaml

#: Tables that every ranking writes.
TABLES = ("ranking", "standings", "pairs", "strengths")
_DIFFERENCE = ("difference", "difference_low", "difference_high", "difference_p")
_PAIR_COLUMNS = ["dimension", "cost", "task", "first", "second", *_DIFFERENCE, "p_family"]


def write_report(ranking: Ranking, folder: Path) -> list[str]:
    """Write all of it, in place of what an earlier ranking in the folder wrote.

    Returns:
        Lines for the terminal.
    """
    for old in folder.glob("steering-*.yaml"):
        old.unlink()
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    lines: list[str] = []
    panels, markdown = [], ["# Ranking at equal cost", "", *_definition(ranking), ""]
    for result in ranking.panels:
        rows, standings, duels = rows_of(result), standings_of(result), duels_of(result)
        name = result.panel.name
        tables["ranking"] += [{"dimension": name} | _row(row, result) for row in rows]
        tables["standings"] += [{"dimension": name} | _standing(one) for one in standings]
        tables["pairs"] += [
            {"dimension": name, "cost": duel.cost, "task": duel.task, "first": duel.first}
            | {"second": duel.second, **_change("difference", duel.difference)}
            | {"p_family": duel.p_family}
            for duel in duels
        ]
        tables["strengths"] += [{"dimension": name} | row for row in _strengths(result)]
        panels += list(_panels(result, rows))
        markdown += _section(result, rows, standings)
        lines += _lines(result, rows, standings)
        _write_steering(ranking, result, standings, folder)
    for name, content in tables.items():
        # A single method has no pairs; its table has their columns all the same.
        columns = _PAIR_COLUMNS if name == "pairs" else None
        write_table(pd.DataFrame(content, columns=columns), folder / name)
    figures = save_figure(cost_curves(panels), folder / "figures", "cost")
    markdown += [f"- {note}" for note in ranking.notes]
    text = "\n".join(markdown).rstrip() + "\n"
    _write(folder / "ranking.md", text)
    record = {"spec": ranking.spec.model_dump(), "text_perplexity": ranking.text_perplexity}
    record |= {"text_tokens": ranking.tokens, "notes": ranking.notes, **tables}
    _write(folder / "ranking.json", json.dumps(plain(record), indent=1, ensure_ascii=False))
    svg = next(path for path in figures if path.suffix == ".svg").read_text(encoding="utf-8")
    _write(folder / "index.html", page_of(ranking, tables, svg))
    return [*lines, *ranking.notes]


def _definition(ranking: Ranking) -> Iterator[str]:
    spec = ranking.spec
    yield (
        f"Cost: KL(unsteered ‖ steered) per token on {ranking.tokens} tokens of {spec.text_task}, "
        f"within {spec.tolerance:.0%} of the cost named; the unsteered perplexity there is "
        f"{ranking.text_perplexity:.2f}. {layers_in_words(spec)} Scores are of the test half. "
        f"Positions: {spec.positions}; α in units of scale={spec.scale}."
    )


def _section(
    result: PanelResult, rows: Sequence[Row], standings: Sequence[Standing]
) -> Iterator[str]:
    spec = result.panel.spec
    for task in result.unsteered.items:
        yield f"## {result.panel.name}: {spec.metric} of {task}"
        yield ""
        yield (
            "| KL | arm | layer | α | perplexity | score | change | p (family) | "
            "over the prompt | random beaten | p (random) |"
        )
        yield "|---:|---|---|---:|---:|---|---|---:|---|---:|---:|"
        for row in (row for row in rows if row.task == task and row.kind != RANDOM):
            one = next((s for s in standings if s.entry is row.entry), None)
            beside = one.beside if one is not None else None
            entry = row.entry
            cells = [
                "" if entry is None else f"{entry.strength.cost:g}",
                row.name,
                "" if entry is None else "+".join(map(str, entry.layers)),
                "" if entry is None else f"{entry.strength.alpha:.3g}",
                "" if entry is None else f"{entry.strength.dose.perplexity:.2f}",
                _interval(row.value.mean, row.value.low, row.value.high, sign=False),
                _compared(row.change),
                _p(row.p_family),
                _compared(row.over_prompt),
                "" if beside is None else f"{beside.beaten} of {beside.arms}",
                "" if one is None else _p(one.p),
            ]
            yield "| " + " | ".join(cells) + " |"
        yield ""
    for entry in result.entries:
        if not entry.strength.reached and entry.arm.kind != RANDOM:
            yield (
                f"- {entry.arm.name} does not reach KL {entry.strength.cost:g} within the limit "
                f"of α: at most {entry.strength.dose.kl:.3g}, at α = {entry.strength.alpha:.3g}."
            )
    for task in unmoved(result):
        yield f"- No arm changes the score of any item of {task}, which says nothing here."
    for sentence in _gaps(rows):
        yield f"- {sentence}"
    missing = [e for e in result.entries if e.arm.kind == RANDOM and not e.strength.reached]
    if missing:
        yield f"- Random directions do not reach the cost in {len(missing)} cases."
    for entry in result.entries:
        if entry.strength.reached and not usable(entry, spec.metric):
            yield (
                f"- {entry.arm.name} at {entry.strength.cost:g} gave values that are not finite, "
                f"or no item of a task has a value."
            )
    yield ""


def _gaps(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence for each task with items that lack a value."""
    for task in dict.fromkeys(row.task for row in rows):
        most = max((row for row in rows if row.task == task), key=lambda row: row.without)
        if most.without:
            yield (
                f"Up to {most.without} of {most.items + most.without} items of {task} have no "
                f"value under an arm; two arms are compared on the items that both have."
            )


def _lines(
    result: PanelResult, rows: Sequence[Row], standings: Sequence[Standing]
) -> Iterator[str]:
    name = result.panel.name
    for one in winners(standings):
        cost, more = one.entry.strength.cost, "more" if one.is_more else "not shown to do more"
        against = "no random directions to compare with"
        if one.beside is not None:
            against = (
                f"beats {one.beside.beaten} of {one.beside.arms} random directions, "
                f"corrected p {_p(one.p)}: {more} than a random direction of the same cost"
            )
        prompt = "" if math.isnan(one.prompt) else f"; the prompt gains {one.prompt:+.3f}"
        yield (
            f"{name} at KL {cost:g}: {one.entry.arm.name} gains most, {one.gain:+.3f}; {against}"
            f"{prompt}."
        )
    for task in unmoved(result):
        yield f"{name}: no arm changes the score of any item of {task}, which says nothing here."
    for sentence in _gaps(rows):
        yield f"{name}: {sentence}"
    for one in standings:
        if math.isnan(one.gain):
            yield f"{name} at KL {one.entry.strength.cost:g}: {one.entry.arm.name} not reached."


def _row(row: Row, result: PanelResult) -> dict[str, Any]:
    entry = row.entry
    found: dict[str, Any] = {
        "cost": None if entry is None else entry.strength.cost,
        "arm": row.name,
        "kind": row.kind,
        "task": row.task,
        "metric": result.panel.spec.metric,
        "items": row.items,
        "without_value": row.without,
        "layer": None if entry is None else "+".join(map(str, entry.layers)),
        "alpha": None if entry is None else entry.strength.alpha,
        "kl": None if entry is None else entry.strength.dose.kl,
        "perplexity": None if entry is None else entry.strength.dose.perplexity,
        "validation": None if entry is None else entry.validation,
        "value": row.value.mean,
        "low": row.value.low,
        "high": row.value.high,
        **_change("change", row.change),
        "p_family": row.p_family,
        **_change("over_prompt", row.over_prompt),
    }
    return found


def _change(name: str, found: Any) -> dict[str, Any]:
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_p": None}
    return {
        name: found.difference.mean,
        f"{name}_low": found.difference.low,
        f"{name}_high": found.difference.high,
        f"{name}_p": found.p,
    }


def _standing(one: Standing) -> dict[str, Any]:
    entry = one.entry
    return {
        "cost": entry.strength.cost,
        "method": entry.arm.name,
        "action": entry.arm.action,
        "layer": "+".join(map(str, entry.layers)),
        "reached": entry.strength.reached,
        "gain": one.gain,
        "prompt_gain": one.prompt,
        "random_beaten": None if one.beside is None else one.beside.beaten,
        "random": None if one.beside is None else one.beside.arms,
        "p": math.nan if one.beside is None else one.beside.p,
        "p_corrected": one.p,
        "more_than_random": one.is_more,
    }


def _strengths(result: PanelResult) -> Iterator[dict[str, Any]]:
    for (arm, layers), found in result.strengths.items():
        for strength in found:
            yield {
                "arm": arm,
                "layer": "+".join(map(str, layers)),
                "cost": strength.cost,
                "alpha": strength.alpha,
                "kl": strength.dose.kl,
                "perplexity": strength.dose.perplexity,
                "reached": strength.reached,
                "monotone": strength.monotone,
                "validation": result.layer_scores.get((arm, layers, strength.cost)),
            }


def _panels(result: PanelResult, rows: Sequence[Row]) -> Iterator[CostPanel]:
    for task in result.unsteered.items:
        here = [row for row in rows if row.task == task]
        lines: dict[str, list[Point]] = {}
        for row in here:
            if row.kind == METHOD:
                lines.setdefault(row.name, []).append(_point(row))
        title = result.panel.name
        if len(result.unsteered.items) > 1:
            title += f": {task}"
        yield CostPanel(
            title,
            result.panel.spec.metric.replace("_", " "),
            lines,
            {row.name: row.value.mean for row in here if row.entry is None},
            [_point(row) for row in here if row.kind == RANDOM],
        )


def _point(row: Row) -> Point:
    assert row.entry is not None
    return Point(row.entry.strength.cost, row.value.mean, row.value.low, row.value.high)


def _write_steering(
    ranking: Ranking, result: PanelResult, standings: Sequence[Standing], folder: Path
) -> None:
    """Write the steering file of the method that gains most at each cost."""
    for one in winners(standings):
        entry = one.entry
        steering = steering_of(entry.arm, entry.layers, entry.strength.alpha, ranking.spec)
        comment = "Gains most at this cost; ranking.md tells whether that says anything."
        name = f"steering-{result.panel.name}-kl{entry.strength.cost:g}.yaml"
        _write(folder / name, steering_yaml([steering], folder, comment=comment))


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _compared(found: Any) -> str:
    if found is None:
        return ""
    return _interval(found.difference.mean, found.difference.low, found.difference.high)


def _interval(mean: float, low: float, high: float, *, sign: bool = True) -> str:
    if sign:
        return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _p(p: float) -> str:
    return "" if math.isnan(p) else f"{p:.2g}"
